import assert from "node:assert/strict";
import { test } from "node:test";
import { settle, TestPair } from "./pair.js";

/**
 * A pair whose application counts the tokens that it gives.
 *
 * @param {() => any} [first] what it gives instead, until told otherwise
 */
function counted(first) {
  let count = 0;
  const number = () => `t${(count += 1)}`;
  const given = { number, next: first ?? number };
  const pair = new TestPair({ getToken: () => given.next() });
  const errors = [];
  pair.hub.on("error", (error) => errors.push(error.code));
  return { pair, given, errors };
}

test("a token is asked for once, while it holds, also across connections", async () => {
  const { pair } = counted();
  await settle();
  assert.equal((await pair.link.accept({ expires_in_s: 3600 })).token, "t1");
  await pair.link.lose({});
  await pair.clock.pass(1000);
  assert.equal((await pair.link.accept({ expires_in_s: 3599 })).token, "t1");
});

test("a hub that cannot be reached costs no token", async () => {
  const { pair } = counted();
  for (let attempt = 0; attempt < 4; attempt += 1) {
    await pair.link?.lose({});
    await pair.clock.pass(4000);
  }
  assert.equal(pair.link.connect().token, "t1");
  // It was offered and nothing came back: perhaps it is the token.
  await pair.link.lose({});
  await pair.clock.pass(20_000);
  assert.equal(pair.link.connect().token, "t2");
});

test("it is renewed before its end, and what it no longer covers is told", async () => {
  const { pair } = counted();
  const channel = pair.hub.channel("orders:1");
  channel.on("e", () => {});
  await settle();
  await pair.link.accept({ expires_in_s: 100 });
  await pair.clock.pass(79_000);
  assert.deepEqual(pair.link.asked, []);
  await pair.clock.pass(2000);
  const { body, answer } = pair.link.next("tidings:refresh");
  assert.deepEqual(body, { token: "t2" });
  answer({ expires_in_s: 100, left: ["orders:1"] });
  await settle();
  // The new token may cover more, too: the hub is asked once.
  assert.equal(channel.state, "subscribing");
  const again = pair.link.next("tidings:subscribe");
  again.answer({ cursor: "e.0", channels: { "orders:1": { error: { code: "forbidden", message: "" } } } });
  await settle();
  assert.equal(channel.state, "denied");
  await pair.clock.pass(81_000);
  assert.deepEqual(pair.link.next("tidings:refresh").body, { token: "t3" });
});

test("the hub's own warning is heeded soon", async () => {
  const { pair } = counted();
  await settle();
  await pair.link.accept({ expires_in_s: 3600 });
  pair.link.say("tidings:expiring", { expires_in_s: 30 });
  pair.link.say("tidings:expiring", { expires_in_s: 29.5 });
  await pair.clock.pass(1000);
  assert.deepEqual(pair.link.next("tidings:refresh").body, { token: "t2" });
  assert.deepEqual(pair.link.asked, []);
});

test("a token that ends in flight: back at once with a new one", async () => {
  const { pair } = counted();
  await settle();
  await pair.link.accept({ expires_in_s: 3600 });
  await pair.link.lose({ code: "expired" });
  await pair.clock.pass(1000);
  assert.equal(pair.link.connect().token, "t2");
});

test("getToken fails: told, asked again later, and the connection goes on meanwhile", async () => {
  const { pair, given, errors } = counted();
  await settle();
  await pair.link.accept({ expires_in_s: 100 });
  given.next = () => Promise.reject(new Error("502"));
  await pair.clock.pass(90_000);
  assert.ok(errors.length > 1);
  assert.equal(new Set(errors).size, 1);
  assert.equal(errors[0], "no_token");
  assert.equal(pair.hub.state, "connected");
  given.next = given.number;
  await pair.clock.pass(5000);
  assert.deepEqual(pair.link.next("tidings:refresh").body, { token: "t2" });
});

test("getToken fails before a connect: it is tried again later", async () => {
  const { pair, given, errors } = counted(() => Promise.reject(new Error("offline")));
  await settle();
  assert.deepEqual([pair.hub.state, errors, pair.links.length], ["waiting", ["no_token"], 0]);
  given.next = given.number;
  await pair.clock.pass(1000);
  assert.equal((await pair.link.accept()).token, "t1");
});

test("signed out: closed, not tried again", async () => {
  const { pair, given } = counted();
  await settle();
  await pair.link.accept({ expires_in_s: 100 });
  given.next = () => null;
  await pair.clock.pass(90_000);
  assert.deepEqual([pair.hub.state, pair.hub.error?.code], ["closed", "unauthorized"]);
  pair.hub.connect();
  await settle();
  assert.equal(pair.hub.state, "closed");
  given.next = () => "fresh";
  pair.hub.connect();
  await settle();
  assert.equal(pair.link.connect().token, "fresh");
});

test("another user's token: a new connection is made with it", async () => {
  const { pair } = counted();
  await settle();
  await pair.link.accept({ expires_in_s: 100 });
  await pair.clock.pass(81_000);
  pair.link.next("tidings:refresh").answer({ error: { code: "forbidden", message: "of another user" } });
  await pair.clock.pass(1000);
  assert.equal(pair.links.length, 2);
  assert.equal(pair.link.connect().token, "t2");
});

test("close() while the application still looks for a token", async () => {
  /** @type {(token: string) => void} */
  let give = () => {};
  const slow = new Promise((resolve) => {
    give = resolve;
  });
  const { pair } = counted(() => slow);
  await settle();
  pair.hub.close();
  give("late");
  await pair.clock.pass(1000);
  assert.deepEqual([pair.links.length, pair.hub.state], [0, "closed"]);
});
