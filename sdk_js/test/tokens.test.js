import assert from "node:assert/strict";
import { test } from "node:test";
import { SessionHarness, settle } from "./session_harness.js";

/**
 * A harness whose `getToken` returns numbered tokens.
 *
 * @param {() => any} [first] replaces `getToken` until `application.next` is set
 */
function countingTokens(first) {
  let count = 0;
  const number = () => `t${(count += 1)}`;
  const application = { number, next: first ?? number };
  const harness = new SessionHarness({ getToken: () => application.next() });
  const errors = [];
  harness.hub.on("error", (error) => errors.push(error.code));
  return { harness, application, errors };
}

test("a valid token is reused for the next connection", async () => {
  const { harness } = countingTokens();
  await settle();
  assert.equal((await harness.link.accept({ expires_in_s: 3600 })).token, "t1");
  await harness.link.disconnect({});
  await harness.clock.pass(1000);
  assert.equal((await harness.link.accept({ expires_in_s: 3599 })).token, "t1");
});

test("an unreachable hub does not use up the token", async () => {
  const { harness } = countingTokens();
  for (let attempt = 0; attempt < 4; attempt += 1) {
    await harness.link?.disconnect({});
    await harness.clock.pass(4000);
  }
  assert.equal(harness.link.connect().token, "t1");
  // The token was sent without a response, so it may be invalid.
  await harness.link.disconnect({});
  await harness.clock.pass(20_000);
  assert.equal(harness.link.connect().token, "t2");
});

test("a token is refreshed before it expires, and channels that it no longer covers are denied", async () => {
  const { harness } = countingTokens();
  const channel = harness.hub.channel("orders:1");
  channel.on("e", () => {});
  await settle();
  await harness.link.accept({ expires_in_s: 100 });
  await harness.clock.pass(79_000);
  assert.deepEqual(harness.link.requests, []);
  await harness.clock.pass(2000);
  const { body, respond } = harness.link.nextRequest("tidings:refresh");
  assert.deepEqual(body, { token: "t2" });
  respond({ expires_in_s: 100, left: ["orders:1"] });
  await settle();
  // The new token may also cover more, so the channel is requested once.
  assert.equal(channel.state, "subscribing");
  const resubscribe = harness.link.nextRequest("tidings:subscribe");
  resubscribe.respond({ cursor: "e.0", channels: { "orders:1": { error: { code: "forbidden", message: "" } } } });
  await settle();
  assert.equal(channel.state, "denied");
  await harness.clock.pass(81_000);
  assert.deepEqual(harness.link.nextRequest("tidings:refresh").body, { token: "t3" });
});

test("tidings:expiring causes a refresh soon", async () => {
  const { harness } = countingTokens();
  await settle();
  await harness.link.accept({ expires_in_s: 3600 });
  harness.link.emit("tidings:expiring", { expires_in_s: 30 });
  harness.link.emit("tidings:expiring", { expires_in_s: 29.5 });
  await harness.clock.pass(1000);
  assert.deepEqual(harness.link.nextRequest("tidings:refresh").body, { token: "t2" });
  assert.deepEqual(harness.link.requests, []);
});

test("a token that expires during the connection: reconnects with a new one", async () => {
  const { harness } = countingTokens();
  await settle();
  await harness.link.accept({ expires_in_s: 3600 });
  await harness.link.disconnect({ code: "expired" });
  await harness.clock.pass(1000);
  assert.equal(harness.link.connect().token, "t2");
});

test("a failed getToken is reported and retried, and the connection stays open", async () => {
  const { harness, application, errors } = countingTokens();
  await settle();
  await harness.link.accept({ expires_in_s: 100 });
  application.next = () => Promise.reject(new Error("502"));
  await harness.clock.pass(90_000);
  assert.ok(errors.length > 1);
  assert.equal(new Set(errors).size, 1);
  assert.equal(errors[0], "no_token");
  assert.equal(harness.hub.state, "connected");
  application.next = application.number;
  await harness.clock.pass(5000);
  assert.deepEqual(harness.link.nextRequest("tidings:refresh").body, { token: "t2" });
});

test("a failed getToken before a connect is retried later", async () => {
  const { harness, application, errors } = countingTokens(() => Promise.reject(new Error("offline")));
  await settle();
  assert.deepEqual([harness.hub.state, errors, harness.links.length], ["waiting", ["no_token"], 0]);
  application.next = application.number;
  await harness.clock.pass(1000);
  assert.equal((await harness.link.accept()).token, "t1");
});

test("without a token the hub closes and does not reconnect", async () => {
  const { harness, application } = countingTokens();
  await settle();
  await harness.link.accept({ expires_in_s: 100 });
  application.next = () => null;
  await harness.clock.pass(90_000);
  assert.deepEqual([harness.hub.state, harness.hub.error?.code], ["closed", "unauthorized"]);
  harness.hub.connect();
  await settle();
  assert.equal(harness.hub.state, "closed");
  application.next = () => "fresh";
  harness.hub.connect();
  await settle();
  assert.equal(harness.link.connect().token, "fresh");
});

test("a token of another user causes a new connection", async () => {
  const { harness } = countingTokens();
  await settle();
  await harness.link.accept({ expires_in_s: 100 });
  await harness.clock.pass(81_000);
  harness.link.nextRequest("tidings:refresh").respond({ error: { code: "forbidden", message: "of another user" } });
  await harness.clock.pass(1000);
  assert.equal(harness.links.length, 2);
  assert.equal(harness.link.connect().token, "t2");
});

test("close() while getToken is pending", async () => {
  /** @type {(token: string) => void} */
  let resolveToken = () => {};
  const pendingToken = new Promise((resolve) => {
    resolveToken = resolve;
  });
  const { harness } = countingTokens(() => pendingToken);
  await settle();
  harness.hub.close();
  resolveToken("late");
  await harness.clock.pass(1000);
  assert.deepEqual([harness.links.length, harness.hub.state], [0, "closed"]);
});
