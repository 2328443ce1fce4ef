// Runs the JavaScript of docs/stock-clients.md as one program on the stock client. Arguments: the file, options as JSON.
// What the program calls of its application is printed, one JSON object a line.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(new URL("../../../sdk_js/package.json", import.meta.url));
const { io } = require("socket.io-client");

const { url, token, next } = JSON.parse(process.argv[3]);
const blocks = [...readFileSync(process.argv[2], "utf8").matchAll(/^```js\n(.*?)^```$/gms)].map((found) => found[1]);
const say = (record) => process.stdout.write(JSON.stringify(record) + "\n");
const application = {
  io: (at, options) => io(at, { ...options, reconnectionDelay: 50, reconnectionDelayMax: 300 }),
  url,
  token,
  show: (what, value) => say({ kind: "show", what, value }),
  load: (channel) => say({ kind: "load", channel }),
  complain: (what, code) => say({ kind: "complain", what, code }),
  renewed: async () => {
    say({ kind: "renewed" });
    return next;
  },
};
const AsyncFunction = (async () => {}).constructor;
const program = new AsyncFunction(...Object.keys(application), `${blocks.join("\n")}\nreturn socket;`);
const socket = await program(...Object.values(application));
socket.on("connect", () => say({ kind: "connect", id: socket.id, recovered: socket.recovered === true }));
socket.on("disconnect", (reason) => say({ kind: "disconnect", reason }));
say({ kind: "end", blocks: blocks.length, id: socket.id });
