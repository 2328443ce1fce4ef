import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "../src/index.js";
import { SessionHarness, settle } from "./session_harness.js";

/** @param {import("../src/options.js").Options} [options] */
async function connected(options) {
  const harness = new SessionHarness(options);
  await settle();
  await harness.link.accept();
  return { harness, channel: harness.hub.channel("chat:1") };
}

const RECEIPT = { id: "i", cursor: "e.1", duplicate: false };

test("a publish resolves with its receipt or rejects with the hub's error", async () => {
  const { harness, channel } = await connected();
  const first = channel.publish("said", { text: "hi" }, { id: "i" });
  const second = channel.publish("said", 1);
  const request = harness.link.nextRequest("tidings:publish");
  assert.deepEqual(request.body, { channel: "chat:1", event: "said", data: { text: "hi" }, id: "i" });
  request.respond(RECEIPT);
  const refused = harness.link.nextRequest("tidings:publish");
  assert.match(refused.body.id, /^[0-9-]{4,64}$/u);
  refused.respond({ error: { code: "forbidden", message: "only backends" } });
  assert.deepEqual(await first, RECEIPT);
  await assert.rejects(second, { name: "TidingsError", code: "forbidden", message: "only backends" });
});

test("without a connection publishes wait, and are sent in order", async () => {
  const { harness, channel } = await connected();
  await harness.link.disconnect({});
  const receipts = Promise.all([1, 2, 3].map((number) => channel.publish("said", number)));
  await harness.clock.pass(10_000);
  await harness.link.accept();
  for (const number of [1, 2, 3]) {
    const { body, respond } = harness.link.nextRequest("tidings:publish");
    assert.equal(body.data, number);
    respond(RECEIPT);
  }
  await receipts;
  assert.equal(harness.clock.running <= 1, true);
});

test("after a lost response the publish is repeated with the same id", async () => {
  const { harness, channel } = await connected();
  const publish = channel.publish("said", 1);
  const first = harness.link.nextRequest("tidings:publish");
  harness.link.disconnect({});
  first.fail();
  await harness.clock.pass(1000);
  await harness.link.accept();
  const repeated = harness.link.nextRequest("tidings:publish");
  assert.deepEqual(repeated.body, first.body);
  repeated.respond({ ...RECEIPT, duplicate: true });
  assert.equal((await publish).duplicate, true);
});

test("a temporary error is retried until the time limit", async () => {
  const { harness, channel } = await connected({ requestTimeoutMs: 5000 });
  const published = channel.publish("said", 1);
  harness.link.nextRequest("tidings:publish").respond({ error: { code: "unavailable", message: "broker" } });
  await settle();
  assert.deepEqual(harness.link.requests, []);
  await harness.clock.pass(1000);
  harness.link.nextRequest("tidings:publish").respond(RECEIPT);
  await published;
  const rejection = assert.rejects(channel.publish("said", 2), { code: "timeout", message: /may have been done/u });
  await harness.clock.pass(5000);
  await rejection;
});

test("a publish without a connection is rejected at the time limit", async () => {
  const { harness, channel } = await connected({ requestTimeoutMs: 5000 });
  await harness.link.disconnect({});
  const rejection = assert.rejects(channel.publish("said", 1), { code: "timeout", message: /No connection/u });
  await harness.clock.pass(5000);
  await rejection;
  await harness.clock.pass(20_000);
  await harness.link.accept();
  assert.deepEqual(harness.link.requests, []);
});

for (const requestTimeoutMs of [Infinity, 2 ** 31, Number.MAX_VALUE]) {
  test(`with a time limit of ${requestTimeoutMs} ms, which no timer has, a publish waits`, async () => {
    const { harness, channel } = await connected({ requestTimeoutMs });
    await harness.link.disconnect({});
    const receipt = channel.publish("said", 1);
    assert.equal(harness.clock.longestDelayMs < 2 ** 31, true);
    await harness.clock.pass(10_000);
    await harness.link.accept();
    harness.link.nextRequest("tidings:publish").respond(RECEIPT);
    assert.deepEqual(await receipt, RECEIPT);
  });
}

test("an endless publish ends with the hub", async () => {
  const { harness, channel } = await connected({ requestTimeoutMs: Infinity });
  const rejection = assert.rejects(channel.publish("said", 1), { code: "closed" });
  harness.hub.close();
  await rejection;
});

test("a queue may be endless", async () => {
  const { harness, channel } = await connected({ queueMax: Infinity });
  await harness.link.disconnect({});
  const rejections = Array.from({ length: 200 }, () => assert.rejects(channel.publish("said", 1), { code: "closed" }));
  harness.hub.close();
  await Promise.all(rejections);
});

for (const option of ["queueMax", "requestTimeoutMs"]) {
  for (const value of [NaN, -1, 0, -Infinity, "5", null, {}, [], true]) {
    test(`${option} of ${JSON.stringify(value)} (${value}) is an error of the call`, () => {
      const text = new RegExp(`^${option} is .*: pass a number above 0, or Infinity`, "u");
      const options = /** @type {any} */ ({ [option]: value });
      assert.throws(() => connect("http://127.0.0.1:9/", options), { code: "bad_option", message: text });
    });
  }
}

for (const transports of [[], "websocket", ["webtransport"], ["polling", "polling", "polling"], 7]) {
  test(`transports of ${JSON.stringify(transports)} are an error of the call`, () => {
    const options = /** @type {any} */ ({ transports });
    assert.throws(() => connect("http://127.0.0.1:9/", options), { code: "bad_option", message: /^transports is/u });
  });
}

test("a full queue rejects new requests and keeps the waiting ones", async () => {
  const { harness, channel } = await connected({ queueMax: 3 });
  await harness.link.disconnect({});
  const waiting = [1, 2, 3].map((number) => channel.publish("said", number));
  await assert.rejects(channel.publish("said", 4), { code: "queue_full" });
  await harness.clock.pass(1000);
  await harness.link.accept();
  assert.deepEqual(harness.link.requests.map(({ body }) => body.data), [1, 2, 3]);
  for (const { respond } of harness.link.requests) {
    respond(RECEIPT);
  }
  await Promise.all(waiting);
  void channel.publish("said", 5).catch(() => {});
  assert.equal(harness.link.requests.at(-1)?.body.data, 5);
});

/** @param {number} levels */
function nested(levels) {
  /** @type {unknown} */
  let data = 1;
  for (let level = 0; level < levels; level += 1) {
    data = level % 2 ? { data } : [data];
  }
  return data;
}

for (const [what, data] of Object.entries({
  "a BigInt": { n: 1n },
  "an object that contains itself": (() => {
    const cycle = {};
    return Object.assign(cycle, { cycle });
  })(),
  "an object whose toJSON throws": { toJSON: () => assert.fail("of the application") },
  "data with 65 levels": nested(65),
  "an array of bytes": { bytes: new Uint8Array(2) },
  "a buffer": [new ArrayBuffer(2)],
  "a Buffer of Node": Buffer.from("x"),
  "a file": { file: new File(["x"], "x.txt") },
})) {
  test(`${what} is rejected at once and never sent`, async () => {
    const { harness, channel } = await connected();
    await assert.rejects(channel.publish("said", data), { name: "TidingsError", code: "bad_data" });
    assert.deepEqual(harness.link.requests, []);
  });
}

test("data with 64 levels, or with brackets in its text, is sent", async () => {
  const { harness, channel } = await connected();
  const text = '[[{{\\"[\\\\'.repeat(40);
  for (const data of [nested(64), { [text]: [text] }]) {
    const receipt = channel.publish("said", data);
    const { body, respond } = harness.link.nextRequest("tidings:publish");
    assert.deepEqual(body.data, data);
    respond(RECEIPT);
    await receipt;
  }
});

test("history returns entries with atMs", async () => {
  const { harness, channel } = await connected();
  const history = channel.history({ limit: 2 });
  const { body, respond } = harness.link.nextRequest("tidings:history");
  assert.deepEqual(body, { channel: "chat:1", limit: 2 });
  respond({ cursor: "e.9", publications: [{ event: "said", data: 1, id: "i", cursor: "e.4", at_ms: 17 }] });
  assert.deepEqual(await history, [{ event: "said", data: 1, id: "i", cursor: "e.4", atMs: 17 }]);
});
