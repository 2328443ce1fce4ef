import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { test } from "node:test";
import vm from "node:vm";
import { build } from "esbuild";
import { settle } from "./session_harness.js";

const SDK = fileURLToPath(new URL("../src/", import.meta.url));
/** Lists one model without a hub, as a worker would, and prints the states of the list and of presence. */
const WORKER = (/** @type {string} */ entry) => `
  import { connect } from ${JSON.stringify(SDK + entry)};
  const hub = connect("http://127.0.0.1:9/");
  hub.on("error", (error) => report("error", error.code));
  const orders = hub.collection("Order", { channel: "orders:all", load: () => [{ id: 1 }] });
  const stopList = orders.subscribe(({ state, error }) => report(state, error?.cause?.code, error?.message));
  const stopPresence = hub.channel("room:1").presence().subscribe(() => {});
  report.close = () => {
    stopList();
    stopPresence();
    hub.close();
  };
`;

/**
 * Runs a bundle where \`import()\` is forbidden and parts are files of their own, as in a service worker.
 *
 * @param {string} entry
 * @param {(lines: string[]) => boolean} isDone
 */
async function runWorker(entry, isDone) {
  const parts = {
    name: "parts",
    setup: (/** @type {import("esbuild").PluginBuild} */ { onResolve }) =>
      onResolve({ filter: /./ }, ({ kind, path }) => (kind === "dynamic-import" ? { path, external: true } : null)),
  };
  const { outputFiles } = await build({
    stdin: { contents: WORKER(entry), resolveDir: SDK },
    bundle: true,
    format: "iife",
    minify: true,
    platform: "browser",
    plugins: [parts],
    write: false,
    logLevel: "error",
  });
  const code = outputFiles[0].text;
  const lines = [];
  const report = Object.assign((/** @type {any[]} */ ...values) => lines.push(values.join(" ").trim()), { close() {} });
  const { AbortController, URL, WebSocket, performance, setTimeout, clearTimeout, queueMicrotask } = globalThis;
  const console = { error() {}, warn() {} };
  const globals = { AbortController, URL, WebSocket, performance, setTimeout, clearTimeout, queueMicrotask };
  class ServiceWorkerGlobalScope {}
  class WorkerGlobalScope {}
  vm.runInNewContext(code, { ...globals, console, report, ServiceWorkerGlobalScope, WorkerGlobalScope, crypto });
  while (!isDone(lines)) {
    await settle();
  }
  report.close();
  return { code, lines };
}

test("tidings/static: lists and presence work where import() is forbidden", async () => {
  const { code, lines } = await runWorker("static.js", (all) => all.includes("ready"));
  assert.doesNotMatch(code, /\bimport\(/);
  assert.ok(!lines.includes("error not_loaded"), `${lines}`);
});

test("tidings: a list in a service worker names tidings/static", async () => {
  const { lines } = await runWorker("index.js", (all) => all.some((line) => line.startsWith("failed")));
  assert.match(lines.join("\n"), /^failed not_loaded .*import "tidings\/static"/m);
});
