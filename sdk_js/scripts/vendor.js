// Copies socket.io-client's browser build to where the hub serves it: no page of ours loads anything from elsewhere.
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const source = new URL("../node_modules/socket.io-client/", import.meta.url);
const target = new URL("../../hub/tidings_hub/web/static/vendor/", import.meta.url);
const FILE = "socket.io.esm.min.js";

const SOURCE_MAP_LINE = /\n\/\/# sourceMappingURL=.*\s*$/u;

const { version } = JSON.parse(await readFile(new URL("package.json", source), "utf8"));
const { dependencies } = JSON.parse(await readFile(new URL("../package.json", import.meta.url), "utf8"));
if (version !== dependencies["socket.io-client"]) {
  throw new Error(`socket.io-client is ${version} and not as package.json wants it: run npm ci`);
}

await mkdir(target, { recursive: true });
// The last line names a source map that is not served.
const build = (await readFile(new URL(`dist/${FILE}`, source), "utf8")).replace(SOURCE_MAP_LINE, "\n");
await writeFile(new URL(FILE, target), build);
await copyFile(new URL("LICENSE", source), new URL("socket.io-client.LICENSE", target));
// For `npm run types`: the build's types are the package's.
await writeFile(new URL(FILE.replace(/\.js$/u, ".d.ts"), target), 'export * from "socket.io-client";\n');
console.log(`socket.io-client ${version} -> ${fileURLToPath(target)}`);
