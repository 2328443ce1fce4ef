// Runs the JavaScript of docs/stock-clients.md as one program with the stock client. Arguments: the file, options as JSON.
// Each call of the program to its application is printed, one JSON object per line.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(new URL("../../../sdk_js/package.json", import.meta.url));
const { io } = require("socket.io-client");

const { url, token, next } = JSON.parse(process.argv[3]);
const blocks = [...readFileSync(process.argv[2], "utf8").matchAll(/^```js\n(.*?)^```$/gms)].map((match) => match[1]);
const print = (record) => process.stdout.write(JSON.stringify(record) + "\n");
const application = {
  io: (at, options) => io(at, { ...options, reconnectionDelay: 50, reconnectionDelayMax: 300 }),
  url,
  token,
  show: (what, value) => print({ kind: "show", what, value }),
  load: (channel) => print({ kind: "load", channel }),
  complain: (what, code) => print({ kind: "complain", what, code }),
  renewed: async () => {
    print({ kind: "renewed" });
    return next;
  },
};
const AsyncFunction = (async () => {}).constructor;
const program = new AsyncFunction(...Object.keys(application), `${blocks.join("\n")}\nreturn socket;`);
const socket = await program(...Object.values(application));
socket.on("connect", () => print({ kind: "connect", id: socket.id, recovered: socket.recovered === true }));
socket.on("disconnect", (reason) => print({ kind: "disconnect", reason }));
print({ kind: "end", blocks: blocks.length, id: socket.id });
