// A stock socket.io-client that prints what it gets, one JSON object a line. Argument: its options as JSON.
// It knows nothing of tidings but the wire of PROTOCOL.md section 5: it keeps the newest cursor and gives it back.
import { createRequire } from "node:module";

const require = createRequire(new URL("../../../sdk_js/package.json", import.meta.url));
const { io } = require("socket.io-client");

const options = JSON.parse(process.argv[2]);
let since = options.since;
const say = (record) => process.stdout.write(JSON.stringify({ at: Date.now(), ...record }) + "\n");

const socket = io(options.url, {
  transports: options.transports,
  reconnectionDelay: 50,
  reconnectionDelayMax: 300,
  auth: (give) => give({ token: options.token, channels: options.channels, ...(since ? { since } : {}) }),
});
socket.on("connect", () => say({ kind: "connect", transport: socket.io.engine.transport.name }));
socket.io.engine?.on("upgrade", (transport) => say({ kind: "upgrade", transport: transport.name }));
socket.on("connect_error", (error) => say({ kind: "connect_error", message: error.message, data: error.data }));
socket.on("disconnect", (reason) => say({ kind: "disconnect", reason }));
socket.onAny((event, data, channel, cursor, ack) => {
  if (event.startsWith("tidings:")) {
    if (event === "tidings:ready" || event === "tidings:gap") since = data.cursor;
    say({ kind: event.slice("tidings:".length), ...data });
  } else {
    const [epoch, seq] = cursor.split("~")[0].split(".");
    const lastSeq = new Map((since ?? "").split("~").map((place) => place.split("."))).get(epoch);
    if (lastSeq === undefined || Number(seq) > Number(lastSeq)) since = cursor;
    say({ kind: "publication", event, data, channel, cursor, ...(ack ? { asked: true } : {}) });
    if (options.acks) ack?.();
  }
});
process.stdin.setEncoding("utf8");
let rest = "";
process.stdin.on("data", (text) => {
  const lines = (rest + text).split("\n");
  rest = lines.pop();
  for (const line of lines) {
    const { emit, data } = JSON.parse(line);
    socket.emit(emit, data, (answer) => say({ kind: "ack", emit, answer }));
  }
});
process.stdin.on("end", () => process.exit(0));
