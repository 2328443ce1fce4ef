// A stock socket.io-client without a line about tidings, that prints what it gets, one JSON object a line. Arguments:
// the package, then its options as JSON. `auth` is a plain object: nothing is remembered but what the client does itself.
import { createRequire } from "node:module";

const require = createRequire(new URL("../../../sdk_js/package.json", import.meta.url));
const { io } = require(process.argv[2]);

const { url, transports, token, channels, acks, ...more } = JSON.parse(process.argv[3]);
const say = (record) => process.stdout.write(JSON.stringify({ at: Date.now(), ...record }) + "\n");

const auth = { ...(token ? { token } : {}), channels, ...more };
const socket = io(url, { transports, reconnectionDelay: 50, reconnectionDelayMax: 300, auth });
socket.on("connect", () => say({ kind: "connect", id: socket.id, recovered: socket.recovered === true }));
socket.on("connect_error", (error) => say({ kind: "connect_error", message: error.message, data: error.data }));
socket.on("disconnect", (reason) => say({ kind: "disconnect", reason }));
socket.onAny((event, ...values) => {
  if (event.startsWith("tidings:")) {
    say({ kind: event.slice("tidings:".length), ...values[0] });
  } else {
    say({ kind: "publication", event, data: values[0], channel: values[1], cursor: values[2] });
    if (acks) values[3]?.();
  }
});
process.stdin.setEncoding("utf8");
let rest = "";
process.stdin.on("data", (text) => {
  const lines = (rest + text).split("\n");
  rest = lines.pop();
  for (const line of lines) {
    const { emit, data, call } = JSON.parse(line);
    if (call) {
      socket[call]();
    } else {
      socket.emit(emit, data, (answer) => say({ kind: "ack", emit, answer }));
    }
  }
});
process.stdin.on("end", () => process.exit(0));
