// @socket.io/redis-emitter, and with {old: true} socket.io-emitter 3, as a backend uses them.
// Argument: {port, old, messages} as JSON; a message is a list of steps [name, arguments].
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";
import { Emitter } from "@socket.io/redis-emitter";
import { createClient } from "redis";

const require = createRequire(import.meta.url);
const { port, old, messages } = JSON.parse(process.argv[2]);

// Values that JSON cannot represent.
const special = (value) => (value?.special === "NaN" ? NaN : value?.special === "bytes" ? Buffer.from([1, 2]) : value);

const client = createClient({ url: `redis://127.0.0.1:${port}` });
await client.connect();
const emitter = old ? require("socket.io-emitter")({ host: "127.0.0.1", port }) : new Emitter(client);
for (const steps of messages) {
  let target = emitter;
  for (const [name, args] of steps) target = args ? target[name](...args.map(special)) : target[name];
}
// The old emitter does not report when it has published.
await sleep(old ? 300 : 0);
await client.quit();
console.log(JSON.stringify({ done: messages.length }));
process.exit(0);
