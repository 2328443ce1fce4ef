// Makes what the hub serves at /tidings.js and /tidings-inbox.js, with their source maps. In a page, the first gives
// `tidings.connect`, the second defines <tidings-inbox>.
import { mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = new URL("../", import.meta.url);
const target = new URL("../hub/tidings_hub/web/static/vendor/", root);

await mkdir(target, { recursive: true });
const SHARED = {
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  sourcemap: true,
  sourcesContent: true,
  legalComments: "none",
};
const BUNDLES = [
  { source: "index.js", file: "tidings.js", globalName: "tidings", licences: "tidings and socket.io-client" },
  { source: "inbox_element.js", file: "tidings-inbox.js", globalName: "tidingsInbox", licences: "tidings" },
  { source: "service_worker.js", file: "tidings-sw.js", licences: "tidings" },
];

for (const { source, file, globalName, licences } of BUNDLES) {
  await build({
    ...SHARED,
    entryPoints: [fileURLToPath(new URL(`src/${source}`, root))],
    outfile: fileURLToPath(new URL(file, target)),
    globalName,
    banner: { js: `/* ${licences}, MIT licence */` },
  });
  console.log(`${file} -> ${fileURLToPath(target)}`);
}
