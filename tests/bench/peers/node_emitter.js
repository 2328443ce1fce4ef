/*
 * The emitter of the Node peer: @socket.io/redis-emitter in a separate process.
 *
 *   node node_emitter.js REDIS_URL     prints {"ready": true}, then executes lines of JSON on stdin:
 *   {"channels": [...], "order": [...], "first": 0, "rate": 0, "window": 0, "fifo": ""}
 *
 * Emits one event per entry of `order` (an index into `channels`), numbered from `first`;
 * `rate` per second, 0 for no limit. With a window, at most that many events are in flight: each byte in `fifo` means
 * that one event has reached all its clients. Responds with {"emitted", "took_s", "cpu_s"}.
 */
"use strict";

const fs = require("node:fs/promises");
const readline = require("node:readline");
const { Emitter } = require("@socket.io/redis-emitter");
const { createClient } = require("redis");

const FILL = "a".repeat(159);
// A ping after each burst makes the client write: an emit only appends to a list in memory.
const BURST = 64;

function data(number) {
  const now = process.hrtime.bigint().toString(16).padStart(16, "0");
  return { t: `~T${now}${number.toString(16).padStart(8, "0")}`, x: FILL };
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function emitAll(client, emitter, { channels, order, first, rate, window, fifo }) {
  const startedNs = process.hrtime.bigint();
  const cpu = process.cpuUsage();
  const steps = window ? await fs.open(fifo, "r") : null;
  const chunk = Buffer.alloc(window || 1);
  let arrived = 0;
  for (let i = 0; i < order.length; i++) {
    const channel = channels[order[i]];
    if (rate) {
      const due = Number(startedNs) / 1e6 + (i * 1000) / rate;
      const wait = due - Number(process.hrtime.bigint()) / 1e6;
      if (wait > 0) await sleep(wait);
    } else if (window) {
      while (i - arrived >= window) arrived += (await steps.read(chunk)).bytesRead;
    } else if (i % BURST === BURST - 1) {
      await client.ping();
    }
    emitter.to(channel).emit("bench", data(first + i));
  }
  await client.ping();
  await steps?.close();
  const used = process.cpuUsage(cpu);
  return {
    emitted: order.length,
    took_s: Number(process.hrtime.bigint() - startedNs) / 1e9,
    cpu_s: (used.user + used.system) / 1e6,
  };
}

async function main(redisUrl) {
  const client = createClient({ url: redisUrl });
  await client.connect();
  const emitter = new Emitter(client);
  console.log(JSON.stringify({ ready: true }));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await emitAll(client, emitter, JSON.parse(line))));
  }
  await client.quit();
}

main(...process.argv.slice(2));
