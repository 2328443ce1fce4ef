// A client with the SDK that prints what it receives, one JSON object per line. Argument: its options as JSON. Each line
// of its input is a command: {"publish": [channel, event, data]}, {"history": [channel, limit]}, {"do": "close"},
// {"watch": channel} and {"unwatch": channel} for presence.
import { connect } from "../../../sdk_js/src/index.js";

const options = JSON.parse(process.argv[2]);
const { tokens } = options;
const print = (record) => process.stdout.write(JSON.stringify(record) + "\n");

const hub = connect(options.url, {
  ...(options.transports ? { transports: options.transports } : {}),
  getToken,
  requestTimeoutMs: 100_000,
});
hub.on("state", (state, error) => print({ kind: state === "connected" ? "ready" : state, user: hub.user, code: error?.code }));
hub.on("transport", (name) => name && print({ kind: "transport", name }));
hub.on("error", (error) => print({ kind: "error", code: error.code, message: error.message }));
options.channels.forEach(listen);
const watches = new Map();
options.watch?.forEach(watch);

/** From the backend, or the next one of `tokens`. The last one is repeated. */
async function getToken() {
  print({ kind: "token" });
  if (options.token_url === undefined) {
    return tokens.length > 1 ? tokens.shift() : tokens[0];
  }
  const response = await fetch(options.token_url);
  if (!response.ok) {
    throw new Error(`${response.status}`);
  }
  return response.text();
}

function listen(name) {
  const channel = hub.channel(name);
  channel.on("*", (data, meta) => print({ kind: "publication", data, ...meta }));
  channel.on("tidings:state", (state, error) => print({ kind: "state", channel: name, state, code: error?.code }));
  channel.on("tidings:recovered", () => print({ kind: "recovered", channel: name }));
  channel.on("tidings:gap", () => print({ kind: "gap", channel: name }));
}

function watch(name) {
  const presence = hub.channel(name).presence();
  const onChange = ({ error, ...present }) => print({ kind: "present", channel: name, code: error?.code, ...present });
  const removers = [presence.subscribe(onChange)];
  for (const event of ["join", "leave"]) {
    removers.push(presence.on(event, ({ user, info }) => print({ kind: event, channel: name, user, info })));
  }
  watches.set(name, () => removers.forEach((remove) => remove()));
}

async function run({ publish, history, ...command }) {
  if (publish) {
    const [name, event, data] = publish;
    const response = await hub.channel(name).publish(event, data).catch((error) => ({ error: { code: error.code } }));
    print({ kind: "ack", answer: response });
  } else if (history) {
    const [name, limit] = history;
    print({ kind: "ack", answer: await hub.channel(name).history({ limit }) });
  } else if (command.watch) {
    watch(command.watch);
  } else if (command.unwatch) {
    watches.get(command.unwatch)();
  } else {
    hub[command.do]();
  }
}

process.stdin.setEncoding("utf8");
let unfinished = "";
process.stdin.on("data", (text) => {
  const lines = (unfinished + text).split("\n");
  unfinished = lines.pop();
  for (const line of lines) {
    void run(JSON.parse(line));
  }
});
process.stdin.on("end", () => process.exit(0));
