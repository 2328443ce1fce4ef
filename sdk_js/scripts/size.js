// Fails when the SDK's own code has grown: gzip of the minified bundle without socket.io-client.
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const OWN_MAX_BYTES = 6 * 1024;

const { outputFiles } = await build({
  entryPoints: [fileURLToPath(new URL("../src/index.js", import.meta.url))],
  external: ["socket.io-client"],
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  write: false,
});
const sizeBytes = gzipSync(outputFiles[0].contents, { level: 9 }).length;
if (sizeBytes > OWN_MAX_BYTES) {
  throw new Error(`the SDK's own code has ${sizeBytes} bytes as gzip; ${OWN_MAX_BYTES} are the limit`);
}
console.log(`own code: ${sizeBytes} of ${OWN_MAX_BYTES} bytes as gzip`);
