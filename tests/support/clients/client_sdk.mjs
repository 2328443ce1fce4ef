// A client made with the SDK that prints what it gets, one JSON object a line. Argument: its options as JSON. A line on
// its input is something to do: {"publish": [channel, event, data]}, {"history": [channel, limit]}, {"do": "close"},
// {"watch": channel}, {"unwatch": channel}: tell who is in it, or no longer.
import { connect } from "../../../sdk_js/src/index.js";

const options = JSON.parse(process.argv[2]);
const { tokens } = options;
const say = (record) => process.stdout.write(JSON.stringify(record) + "\n");

const hub = connect(options.url, {
  ...(options.transports ? { transports: options.transports } : {}),
  getToken,
  requestTimeoutMs: 100_000,
});
hub.on("state", (state, error) => say({ kind: state === "connected" ? "ready" : state, user: hub.user, code: error?.code }));
hub.on("transport", (name) => name && say({ kind: "transport", name }));
hub.on("error", (error) => say({ kind: "error", code: error.code }));
options.channels.forEach(listen);
const watched = new Map();
options.watch?.forEach(watch);

/** From the backend, or the next of the given tokens; the last one stays. */
async function getToken() {
  say({ kind: "token" });
  if (options.token_url === undefined) {
    return tokens.length > 1 ? tokens.shift() : tokens[0];
  }
  const answer = await fetch(options.token_url);
  if (!answer.ok) {
    throw new Error(`${answer.status}`);
  }
  return answer.text();
}

function listen(name) {
  const channel = hub.channel(name);
  channel.on("*", (data, meta) => say({ kind: "publication", data, ...meta }));
  channel.on("tidings:state", (state, error) => say({ kind: "state", channel: name, state, code: error?.code }));
  channel.on("tidings:recovered", () => say({ kind: "recovered", channel: name }));
  channel.on("tidings:gap", () => say({ kind: "gap", channel: name }));
}

function watch(name) {
  const presence = hub.channel(name).presence();
  const tell = ({ error, ...present }) => say({ kind: "present", channel: name, code: error?.code, ...present });
  const offs = [presence.subscribe(tell)];
  for (const event of ["join", "leave"]) {
    offs.push(presence.on(event, ({ user, info }) => say({ kind: event, channel: name, user, info })));
  }
  watched.set(name, () => offs.forEach((off) => off()));
}

async function act({ publish, history, ...rest }) {
  if (publish) {
    const [name, event, data] = publish;
    const answer = await hub.channel(name).publish(event, data).catch((error) => ({ error: { code: error.code } }));
    say({ kind: "ack", answer });
  } else if (history) {
    const [name, limit] = history;
    say({ kind: "ack", answer: await hub.channel(name).history({ limit }) });
  } else if (rest.watch) {
    watch(rest.watch);
  } else if (rest.unwatch) {
    watched.get(rest.unwatch)();
  } else {
    hub[rest.do]();
  }
}

process.stdin.setEncoding("utf8");
let rest = "";
process.stdin.on("data", (text) => {
  const lines = (rest + text).split("\n");
  rest = lines.pop();
  for (const line of lines) {
    void act(JSON.parse(line));
  }
});
process.stdin.on("end", () => process.exit(0));
