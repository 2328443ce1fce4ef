// A stock socket.io-client without any code for tidings. It prints what it receives, one JSON object per line. Arguments:
// the package, then its options as JSON. `auth` is a plain object, so only the client itself keeps state.
import { createRequire } from "node:module";

const require = createRequire(new URL("../../../sdk_js/package.json", import.meta.url));
const { io } = require(process.argv[2]);

const { url, transports, token, channels, acks, ...otherOptions } = JSON.parse(process.argv[3]);
const print = (record) => process.stdout.write(JSON.stringify({ at: Date.now(), ...record }) + "\n");

const auth = { ...(token ? { token } : {}), channels, ...otherOptions };
const socket = io(url, { transports, reconnectionDelay: 50, reconnectionDelayMax: 300, auth });
socket.on("connect", () =>
  print({ kind: "connect", id: socket.id, recovered: socket.recovered === true, pid: socket._pid }),
);
socket.on("connect_error", (error) => print({ kind: "connect_error", message: error.message, data: error.data }));
socket.on("disconnect", (reason) => print({ kind: "disconnect", reason }));
socket.onAny((event, ...values) => {
  if (event.startsWith("tidings:")) {
    print({ kind: event.slice("tidings:".length), ...values[0] });
  } else {
    print({ kind: "publication", event, data: values[0], channel: values[1], cursor: values[2] });
    if (acks) values[3]?.();
  }
});
process.stdin.setEncoding("utf8");
let unfinished = "";
process.stdin.on("data", (text) => {
  const lines = (unfinished + text).split("\n");
  unfinished = lines.pop();
  for (const line of lines) {
    const { emit, data, call } = JSON.parse(line);
    if (call) {
      socket[call]();
    } else {
      socket.emit(emit, data, (response) => print({ kind: "ack", emit, answer: response }));
    }
  }
});
process.stdin.on("end", () => process.exit(0));
