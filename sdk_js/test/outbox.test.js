import assert from "node:assert/strict";
import { test } from "node:test";
import { settle, TestPair } from "./pair.js";

/** @param {import("../src/hub.js").Options} [options] */
async function connected(options) {
  const pair = new TestPair(options);
  await settle();
  await pair.link.accept();
  return { pair, channel: pair.hub.channel("chat:1") };
}

const RECEIPT = { id: "i", cursor: "e.1", duplicate: false };

test("a publish is answered by its receipt, or by the hub's refusal", async () => {
  const { pair, channel } = await connected();
  const first = channel.publish("said", { text: "hi" }, { id: "i" });
  const second = channel.publish("said", 1);
  const asked = pair.link.next("tidings:publish");
  assert.deepEqual(asked.body, { channel: "chat:1", event: "said", data: { text: "hi" }, id: "i" });
  asked.answer(RECEIPT);
  const refused = pair.link.next("tidings:publish");
  assert.match(refused.body.id, /^[0-9-]{4,64}$/u);
  refused.answer({ error: { code: "forbidden", message: "only backends" } });
  assert.deepEqual(await first, RECEIPT);
  await assert.rejects(second, { name: "TidingsError", code: "forbidden", message: "only backends" });
});

test("without a connection it waits, and goes out in order", async () => {
  const { pair, channel } = await connected();
  await pair.link.lose({});
  const all = Promise.all([1, 2, 3].map((number) => channel.publish("said", number)));
  await pair.clock.pass(10_000);
  await pair.link.accept();
  for (const number of [1, 2, 3]) {
    const { body, answer } = pair.link.next("tidings:publish");
    assert.equal(body.data, number);
    answer(RECEIPT);
  }
  await all;
  assert.equal(pair.clock.running <= 1, true);
});

test("an answer that was lost with its connection is asked for with the same id", async () => {
  const { pair, channel } = await connected();
  const publish = channel.publish("said", 1);
  const first = pair.link.next("tidings:publish");
  pair.link.lose({});
  first.fail();
  await pair.clock.pass(1000);
  await pair.link.accept();
  const again = pair.link.next("tidings:publish");
  assert.deepEqual(again.body, first.body);
  again.answer({ ...RECEIPT, duplicate: true });
  assert.equal((await publish).duplicate, true);
});

test("what failed only for now is tried again, and has an end", async () => {
  const { pair, channel } = await connected({ requestTimeoutMs: 5000 });
  const good = channel.publish("said", 1);
  pair.link.next("tidings:publish").answer({ error: { code: "unavailable", message: "broker" } });
  await settle();
  assert.deepEqual(pair.link.asked, []);
  await pair.clock.pass(1000);
  pair.link.next("tidings:publish").answer(RECEIPT);
  await good;
  const bad = assert.rejects(channel.publish("said", 2), { code: "timeout", message: /may have been done/u });
  await pair.clock.pass(5000);
  await bad;
});

test("offline for too long", async () => {
  const { pair, channel } = await connected({ requestTimeoutMs: 5000 });
  await pair.link.lose({});
  const bad = assert.rejects(channel.publish("said", 1), { code: "timeout", message: /No connection/u });
  await pair.clock.pass(5000);
  await bad;
  await pair.clock.pass(20_000);
  await pair.link.accept();
  assert.deepEqual(pair.link.asked, []);
});

test("the queue is bounded, and a full one drops none of the waiting", async () => {
  const { pair, channel } = await connected({ queueMax: 3 });
  await pair.link.lose({});
  const waiting = [1, 2, 3].map((number) => channel.publish("said", number));
  await assert.rejects(channel.publish("said", 4), { code: "queue_full" });
  await pair.clock.pass(1000);
  await pair.link.accept();
  assert.deepEqual(pair.link.asked.map(({ body }) => body.data), [1, 2, 3]);
  for (const { answer } of pair.link.asked) {
    answer(RECEIPT);
  }
  await Promise.all(waiting);
  void channel.publish("said", 5).catch(() => {});
  assert.equal(pair.link.asked.at(-1)?.body.data, 5);
});

test("history", async () => {
  const { pair, channel } = await connected();
  const history = channel.history({ limit: 2 });
  const { body, answer } = pair.link.next("tidings:history");
  assert.deepEqual(body, { channel: "chat:1", limit: 2 });
  answer({ cursor: "e.9", publications: [{ event: "said", data: 1, id: "i", cursor: "e.4", at_ms: 17 }] });
  assert.deepEqual(await history, [{ event: "said", data: 1, id: "i", cursor: "e.4", atMs: 17 }]);
});
