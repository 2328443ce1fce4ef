// Fails when the SDK's own code has grown: gzip of each minified part, without what it imports from others.
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const LATER = [
  "./core/rows.js",
  "./inbox.js",
  "./job.js",
  "./kept_queue.js",
  "./presence_client.js",
  "./push.js",
  "./tabs/share.js",
];
const OTHERS = ["socket.io-client", "react"];

// What every page has by then.
const CORE = [
  "./core/codes.js",
  "./core/presence_snapshot.js",
  "./error.js",
  "./positions.js",
  "./presence_snapshot.js",
];
const TABS = [
  ...["../core/codes.js", "../core/cursor.js", "../core/error.js", "../core/positions.js", "../core/token_user.js"],
  ...["../socket.js", "../tokens.js"],
];

// What every page loads; what is loaded with the first list, the first presence and `shareTabs`; what React pages add.
const PARTS = [
  { file: "index.js", external: [...OTHERS, ...LATER], maxBytes: 9.75 * 1024 },
  { file: "core/rows.js", external: OTHERS, maxBytes: 1.5 * 1024 },
  { file: "inbox_element.js", external: OTHERS, maxBytes: 12.5 * 1024 },
  { file: "job.js", external: [...OTHERS, "./core/error.js", "./core/listeners.js"], maxBytes: 1.5 * 1024 },
  {
    file: "inbox.js",
    external: [...OTHERS, ...CORE, "./core/backoff.js", "./core/error.js", "./core/listeners.js"],
    maxBytes: 2.5 * 1024,
  },
  { file: "kept_queue.js", external: [...OTHERS, ...CORE, "./core/error.js"], maxBytes: 1.25 * 1024 },
  { file: "push.js", external: [...OTHERS, "./core/error.js", "./core/listeners.js"], maxBytes: 2.25 * 1024 },
  { file: "service_worker.js", external: OTHERS, maxBytes: 1.5 * 1024 },
  { file: "presence_client.js", external: [...OTHERS, ...CORE], maxBytes: 2 * 1024 },
  { file: "tabs/share.js", external: [...OTHERS, ...TABS], maxBytes: 5 * 1024 },
  { file: "react.js", external: OTHERS, maxBytes: 640 },
  { file: "react_inbox.js", external: [...OTHERS, "./inbox_element.js"], maxBytes: 512 },
];

for (const { file, external, maxBytes } of PARTS) {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL(`../src/${file}`, import.meta.url))],
    external,
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    write: false,
  });
  const sizeBytes = gzipSync(outputFiles[0].contents, { level: 9 }).length;
  if (sizeBytes > maxBytes) {
    throw new Error(`${file} has ${sizeBytes} bytes as gzip; ${maxBytes} are the limit`);
  }
  console.log(`${file}: ${sizeBytes} of ${maxBytes} bytes as gzip`);
}
