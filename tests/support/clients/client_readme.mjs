// Runs the JavaScript of README.md with the stock client. Arguments: the file, options as JSON: the address of the hub and
// of the backend's tokens. It prints one JSON object per line. Each line of its input is {"call": a method of the socket}.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(new URL("../../../sdk_js/package.json", import.meta.url));
const { io } = require("socket.io-client");

const { url, token_url: tokenUrl, transports } = JSON.parse(process.argv[3]);
const [, code] = /^```js\n(.*?)^```$/ms.exec(readFileSync(process.argv[2], "utf8"));
const print = (record) => process.stdout.write(JSON.stringify(record) + "\n");
const application = {
  io: (_, options) => io(url, { ...options, transports, reconnectionDelay: 50, reconnectionDelayMax: 300 }),
  fetch: async () => {
    print({ kind: "token" });
    const response = await fetch(tokenUrl);
    print({ kind: "response" });
    return response;
  },
  // The example's delay in seconds passes in its hundredth part.
  setTimeout: (callback, delayMs) => setTimeout(callback, delayMs / 100),
  reloadOrder: () => print({ kind: "reload" }),
  show: (order) => print({ kind: "publication", data: order, channel: "orders:42" }),
};
const socket = new Function(...Object.keys(application), `${code}\nreturn socket;`)(...Object.values(application));
socket.on("connect", () => print({ kind: "connect" }));
socket.on("tidings:ready", ({ user }) => print({ kind: "ready", user }));
socket.on("connect_error", ({ data }) => print({ kind: "connect_error", code: data?.code }));
socket.on("disconnect", (reason) => print({ kind: "disconnect", reason }));
// The page's console: what /token could not give.
process.on("unhandledRejection", () => print({ kind: "unhandled" }));
createInterface({ input: process.stdin }).on("line", (line) => socket[JSON.parse(line).call]());
