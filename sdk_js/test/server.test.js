import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";
import { promisify } from "node:util";

const SDK = new URL("../src/", import.meta.url);
/** A program that renders a page with a list, as a build does: its modules connect when they are loaded. */
const RENDERS = `
  import { createElement } from "react";
  import { renderToString } from "react-dom/server";
  const { connect } = await import(process.argv[2] + "index.js");
  const { useChannel, useCollection, usePresence } = await import(process.argv[2] + "react.js");
  const tokens = [];
  const hub = connect(process.argv[3], { getToken: () => tokens.push(1) && "t", shareTabs: true, keepAs: "kept" });
  hub.on("error", (error) => console.log(error.code));
  const orders = hub.collection("Order", { channel: "orders:all", load: () => [] });
  // As Svelte does.
  orders.subscribe(() => {})();
  const Page = () => {
    useChannel(hub.channel("room:1"), "said", () => {});
    const { count } = usePresence(hub.channel("room:1"));
    return [hub.state, useCollection(orders).state, count].join(" ");
  };
  console.log(renderToString(createElement(Page)));
  process.on("exit", () => console.log(tokens.length, hub.state));
`;
/** A program that listens, publishes or connects, and prints the errors of its hub. */
const USES = `
  const { connect } = await import(process.argv[2] + "index.js");
  const hub = connect(process.argv[3]);
  hub.on("state", (state, error) => {
    console.log(state, error?.code);
    if (state !== "connecting") {
      hub.close();
    }
  });
  const channel = hub.channel("room:1");
  const uses = {
    listen: () => channel.on("said", () => {}),
    publish: () => channel.publish("said", 1).catch((error) => console.log(error.code)),
    connect: () => hub.connect(),
  };
  uses[process.argv[4]]();
`;

/**
 * @param {string} program
 * @param {string[]} args
 * @returns {Promise<string[]>} the lines of a program that ends by itself
 */
async function run(program, ...args) {
  const options = { cwd: new URL("..", import.meta.url), timeout: 60_000 };
  const command = ["--input-type=module", "-e", program, "-", String(SDK), ...args];
  const { stdout } = await promisify(execFile)(process.execPath, command, options);
  return stdout.trim().split("\n");
}

for (const url of ["/", "http://127.0.0.1:9/"]) {
  test(`rendering on a server with connect("${url}") neither fails nor connects, and the process ends`, async () => {
    assert.deepEqual(await run(RENDERS, url), ["connecting loading 0", "0 connecting"]);
  });
}

for (const use of ["listen", "publish", "connect"]) {
  test(`without a page, ${use} connects`, async () => {
    // It is no hub: what counts is that the SDK reaches it.
    const server = createServer((_, response) => response.writeHead(404).end());
    await new Promise((resolve) => {
      server.listen(0, "127.0.0.1", () => resolve(undefined));
    });
    const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
    const reached = once(server, "connection");
    const lines = await run(USES, `http://127.0.0.1:${port}`, use);
    await reached;
    server.close();
    assert.deepEqual(lines.slice(0, 2), ["connecting undefined", "waiting unreachable"]);
  });
}

test("without a page, a relative address is an error of its first use", async () => {
  assert.deepEqual(await run(USES, "/", "publish"), ["connecting undefined", "closed bad_url", "bad_url"]);
});
