// A stock socket.io-client as a page has it, which prints each code that reaches it and where, one JSON object per line.
// Argument: its options as JSON. A line of its input is sent as an event, or (`raw`) as an Engine.IO message.
import { createRequire } from "node:module";

const require = createRequire(new URL("../../../sdk_js/package.json", import.meta.url));
const { io } = require("socket.io-client");

const { url, transports, token, channels } = JSON.parse(process.argv[2]);
const print = (record) => process.stdout.write(JSON.stringify(record) + "\n");
/** The code in a close frame or in a response, as docs/stock-clients.md reads it. */
const codeOf = ({ reason, responseText } = {}) => {
  try {
    const body = JSON.parse(responseText);
    return (body.error ?? body).code;
  } catch {
    return reason;
  }
};
const socket = io(url, { transports, reconnectionDelay: 50, reconnectionDelayMax: 300, auth: { token, channels } });
socket.on("connect", () => print({ kind: "connect" }));
socket.on("tidings:ready", () => print({ kind: "ready" }));
socket.on("tidings:close", ({ code }) => print({ kind: "code", by: "event", code }));
socket.on("connect_error", ({ data, context }) => {
  print({ kind: "code", by: "connect_error", code: data?.code ?? codeOf(context) ?? null });
  print({ kind: "step", returns: socket.active });
});
socket.on("disconnect", (reason, details) => {
  print({ kind: "code", by: "disconnect", code: codeOf(details?.context) ?? null });
  print({ kind: "step", returns: socket.active, reason });
});
process.stdin.setEncoding("utf8");
let unfinished = "";
process.stdin.on("data", (text) => {
  const lines = (unfinished + text).split("\n");
  unfinished = lines.pop();
  for (const line of lines) {
    const { emit, data, times = 1, raw } = JSON.parse(line);
    for (let number = 0; number < times; number += 1) {
      raw === undefined ? socket.emit(emit, data) : socket.io.engine.write(raw);
    }
  }
});
process.stdin.on("end", () => process.exit(0));
