// Makes what the hub serves at /tidings.js, with its source map: <script src> gives a page `tidings.connect`.
import { mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = new URL("../", import.meta.url);
const target = new URL("../hub/tidings_hub/web/static/vendor/", root);

await mkdir(target, { recursive: true });
await build({
  entryPoints: [fileURLToPath(new URL("src/index.js", root))],
  outfile: fileURLToPath(new URL("tidings.js", target)),
  bundle: true,
  minify: true,
  format: "iife",
  globalName: "tidings",
  target: "es2022",
  sourcemap: true,
  sourcesContent: true,
  legalComments: "none",
  banner: { js: "/* tidings and socket.io-client, MIT licence */" },
});
// The service worker of Web Push is a file of its own.
await build({
  entryPoints: [fileURLToPath(new URL("src/service_worker.js", root))],
  outfile: fileURLToPath(new URL("tidings-sw.js", target)),
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  legalComments: "none",
  banner: { js: "/* tidings, MIT licence */" },
});
console.log(`tidings.js -> ${fileURLToPath(target)}`);
