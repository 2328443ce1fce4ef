// Several hub objects of the SDK in one process, one for each name, at `<url>/<name>`. It prints what the application
// receives, one JSON object per line. Any input makes it print whether built-in prototypes are unchanged.
import { connect } from "../../../sdk_js/src/index.js";

const options = JSON.parse(process.argv[2]);
const print = (record) => process.stdout.write(JSON.stringify(record) + "\n");
const LONG = 10_000;
const PROTOTYPES = [Object.prototype, Array.prototype, Function.prototype, String.prototype, Error.prototype];
const keysOf = () => PROTOTYPES.flatMap((prototype) => Reflect.ownKeys(prototype).map(String)).join(" ");
const initialKeys = keysOf();

if (options.random !== undefined) {
  Math.random = () => options.random;
}
process.on("uncaughtException", (error) => print({ kind: "uncaught", stack: error.stack }));
process.on("unhandledRejection", (error) => print({ kind: "uncaught", stack: error?.stack ?? String(error) }));

for (const name of options.names) {
  const hub = connect(`${options.url}/${name}`, {
    transports: options.transports,
    requestTimeoutMs: 5000,
    getToken: () => {
      print({ kind: "token", name });
      return "token";
    },
  });
  hub.on("state", (state, error) => print({ kind: "state", name, state, code: error?.code }));
  hub.on("error", (error) => print({ kind: "error", name, code: error.code }));
  const channel = hub.channel("orders:1");
  channel.on("*", (data, meta) => {
    const text = JSON.stringify(data) ?? "undefined";
    print({ kind: "publication", name, data: text.length > LONG ? text.length : data, ...meta, cursor: undefined });
  });
  channel.on("tidings:gap", () => print({ kind: "gap", name }));
  for (const odd of ["__proto__", "constructor", "toString"]) {
    channel.on(odd, () => print({ kind: "named", name, event: odd }));
    hub.channel(`orders:${odd}`).on("*", (data, meta) => print({ kind: "elsewhere", name, data, channel: meta.channel }));
  }
  const load = () => (print({ kind: "load", name }), []);
  hub.collection("Order", { channel: "orders:1", load }).subscribe(({ items }) => print({ kind: "items", name, items }));
  if (options.publishes) {
    channel.publish("said", 1).then(
      (receipt) => print({ kind: "receipt", name, receipt }),
      (error) => print({ kind: "rejected", name, code: error.code }),
    );
  }
}

process.stdin.on("data", () => print({ kind: "prototypes", clean: keysOf() === initialKeys && {}.polluted === undefined }));
process.stdin.on("end", () => process.exit(0));
