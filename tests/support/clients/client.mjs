// A stock socket.io-client that prints what it receives, one JSON object per line. Argument: its options as JSON.
// It implements only PROTOCOL.md section 5: it keeps the newest cursor and sends it when it reconnects.
import { createRequire } from "node:module";

const require = createRequire(new URL("../../../sdk_js/package.json", import.meta.url));
const { io } = require("socket.io-client");

const options = JSON.parse(process.argv[2]);
let since = options.since;
const print = (record) => process.stdout.write(JSON.stringify({ at: Date.now(), ...record }) + "\n");

const socket = io(options.url, {
  transports: options.transports,
  reconnectionDelay: 50,
  reconnectionDelayMax: 300,
  auth: (send) => send({ token: options.token, channels: options.channels, ...(since ? { since } : {}) }),
});
socket.on("connect", () => print({ kind: "connect", transport: socket.io.engine.transport.name }));
socket.io.engine?.on("upgrade", (transport) => print({ kind: "upgrade", transport: transport.name }));
socket.on("connect_error", (error) => print({ kind: "connect_error", message: error.message, data: error.data }));
socket.on("disconnect", (reason) => print({ kind: "disconnect", reason }));
socket.onAny((event, data, channel, cursor, ack) => {
  if (event.startsWith("tidings:")) {
    if (event === "tidings:ready" || event === "tidings:gap") since = data.cursor;
    print({ kind: event.slice("tidings:".length), ...data });
  } else {
    const [epoch, seq] = cursor.split("~")[0].split(".");
    const lastSeq = new Map((since ?? "").split("~").map((place) => place.split("."))).get(epoch);
    if (lastSeq === undefined || Number(seq) > Number(lastSeq)) since = cursor;
    print({ kind: "publication", event, data, channel, cursor, ...(ack ? { ackRequested: true } : {}) });
    if (options.acks) ack?.();
  }
});
process.stdin.setEncoding("utf8");
let unfinished = "";
process.stdin.on("data", (text) => {
  const lines = (unfinished + text).split("\n");
  unfinished = lines.pop();
  for (const line of lines) {
    const { emit, data } = JSON.parse(line);
    socket.emit(emit, data, (response) => print({ kind: "ack", emit, answer: response }));
  }
});
process.stdin.on("end", () => process.exit(0));
