// Many hubs of the SDK in one process, one for each name, at `<url>/<name>`. It prints what reaches the application, one
// JSON object a line; on its input {"prototypes": 1} asks for what was added to those that everything has.
import { connect } from "../../../sdk_js/src/index.js";

const options = JSON.parse(process.argv[2]);
const say = (record) => process.stdout.write(JSON.stringify(record) + "\n");
const LONG = 10_000;
const PROTOTYPES = [Object.prototype, Array.prototype, Function.prototype, String.prototype, Error.prototype];
const keysOf = () => PROTOTYPES.flatMap((each) => Reflect.ownKeys(each).map(String)).join(" ");
const before = keysOf();

if (options.random !== undefined) {
  Math.random = () => options.random;
}
process.on("uncaughtException", (error) => say({ kind: "uncaught", stack: error.stack }));
process.on("unhandledRejection", (error) => say({ kind: "uncaught", stack: error?.stack ?? String(error) }));

for (const name of options.names) {
  const hub = connect(`${options.url}/${name}`, {
    transports: options.transports,
    requestTimeoutMs: 5000,
    getToken: () => {
      say({ kind: "token", name });
      return "token";
    },
  });
  hub.on("state", (state, error) => say({ kind: "state", name, state, code: error?.code }));
  hub.on("error", (error) => say({ kind: "error", name, code: error.code }));
  const channel = hub.channel("orders:1");
  channel.on("*", (data, meta) => {
    const text = JSON.stringify(data) ?? "undefined";
    say({ kind: "publication", name, data: text.length > LONG ? text.length : data, ...meta, cursor: undefined });
  });
  channel.on("tidings:gap", () => say({ kind: "gap", name }));
  for (const other of ["__proto__", "constructor", "toString"]) {
    channel.on(other, () => say({ kind: "named", name, event: other }));
    hub.channel(`orders:${other}`).on("*", (data, meta) => say({ kind: "elsewhere", name, data, channel: meta.channel }));
  }
  const load = () => (say({ kind: "load", name }), []);
  hub.collection("Order", { channel: "orders:1", load }).subscribe(({ items }) => say({ kind: "items", name, items }));
  if (options.publishes) {
    channel.publish("said", 1).then(
      (receipt) => say({ kind: "receipt", name, receipt }),
      (error) => say({ kind: "rejected", name, code: error.code }),
    );
  }
}

process.stdin.on("data", () => say({ kind: "prototypes", clean: keysOf() === before && {}.polluted === undefined }));
process.stdin.on("end", () => process.exit(0));
