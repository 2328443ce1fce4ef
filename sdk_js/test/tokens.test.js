import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { tokenFor } from "./memory_hub.js";
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
  assert.equal(harness.link.connect().token, "t3");
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

describe("the next user", () => {
  /** A harness whose `getToken` calls wait until the test answers them, in any order. */
  function pendingTokens() {
    /** @type {((token: string | null) => void)[]} */
    const answers = [];
    const { harness, application, errors } = countingTokens(
      () =>
        new Promise((resolve) => {
          answers.push(resolve);
        }),
    );
    return { harness, application, errors, answers };
  }

  test("after close() or a refusal, connect() requests a new token", async () => {
    for (const refusal of [undefined, "revoked", "unauthorized", "forbidden"]) {
      const { harness } = countingTokens();
      await settle();
      await harness.link.accept({ expires_in_s: 3600 });
      if (refusal) {
        await harness.link.disconnect({ code: refusal, refused: true });
      } else {
        harness.hub.close();
      }
      assert.deepEqual([harness.hub.state, harness.hub.user], ["closed", undefined]);
      harness.hub.connect();
      await settle();
      assert.equal(harness.link.connect().token, "t2", refusal);
    }
  });

  test("after close(), connect() stays closed if getToken gives no token any more", async () => {
    const { harness, application } = countingTokens();
    await settle();
    await harness.link.accept({ expires_in_s: 3600 });
    harness.hub.close();
    application.next = () => null;
    harness.hub.connect();
    await settle();
    assert.deepEqual([harness.hub.state, harness.hub.error?.code, harness.links.length], ["closed", "unauthorized", 1]);
  });

  test("a connection that a hub or a backend ended on purpose is followed by a new token", async () => {
    for (const reason of [{ code: "expired" }, { code: "disconnected" }, { number: 4008 }, { number: 4009 }]) {
      const { harness } = countingTokens();
      await settle();
      await harness.link.accept({ expires_in_s: 3600 });
      await harness.link.disconnect(reason);
      await harness.clock.pass(20_000);
      assert.equal(harness.link.connect().token, "t2", JSON.stringify(reason));
    }
  });

  test("connect() during the wait for a retry requests a new token", async () => {
    const { harness } = countingTokens();
    await settle();
    await harness.link.accept({ expires_in_s: 3600 });
    await harness.link.disconnect({});
    harness.hub.connect();
    await settle();
    assert.equal(harness.link.connect().token, "t2");
  });

  test("a slow getToken from before close() never wins, whenever it resolves", async () => {
    for (const isLast of [true, false]) {
      const { harness, answers } = pendingTokens();
      await settle();
      harness.hub.close();
      harness.hub.connect();
      await settle();
      const order = isLast ? [1, 0] : [0, 1];
      for (const call of order) {
        answers[call](["old", "new"][call]);
        await settle();
      }
      assert.equal((await harness.link.accept({ expires_in_s: 3600 })).token, "new");
      await harness.link.disconnect({});
      await harness.clock.pass(20_000);
      assert.deepEqual([harness.link.connect().token, answers.length], ["new", 2]);
    }
  });

  test("a slow getToken that a newer call overtook is dropped", async () => {
    const { harness, answers } = pendingTokens();
    await harness.clock.pass(9000);
    assert.equal(answers.length, 2);
    answers[1]("new");
    await settle();
    answers[0]("old");
    await settle();
    assert.equal((await harness.link.accept({ expires_in_s: 3600 })).token, "new");
    await harness.link.disconnect({});
    await harness.clock.pass(20_000);
    assert.equal(harness.link.connect().token, "new");
  });

  test("a getToken slower than one attempt is used by the next attempt", async () => {
    const { harness, answers } = pendingTokens();
    await harness.clock.pass(8000);
    assert.equal(harness.hub.state, "waiting");
    answers[0]("slow");
    await harness.clock.pass(1000);
    assert.equal(harness.link.connect().token, "slow");
  });

  test("a refresh that is pending during close() is not sent, and its token is not used", async () => {
    const { harness, application } = countingTokens();
    await settle();
    await harness.link.accept({ expires_in_s: 3600 });
    const first = harness.link;
    /** @type {(token: string) => void} */
    let resolveToken = () => {};
    application.next = () =>
      new Promise((resolve) => {
        resolveToken = resolve;
      });
    first.emit("tidings:expiring", { expires_in_s: 30 });
    await harness.clock.pass(1000);
    harness.hub.close();
    resolveToken("old");
    await settle();
    application.next = () => "new";
    harness.hub.connect();
    await settle();
    assert.deepEqual([harness.link.connect().token, first.requests], ["new", []]);
  });

  test("a getToken that fails after close() is no error of the next user", async () => {
    /** @type {(error: Error) => void} */
    let fail = () => {};
    const pending = new Promise((_, reject) => {
      fail = reject;
    });
    const { harness, application, errors } = countingTokens(() => pending);
    await settle();
    harness.hub.close();
    application.next = () => "new";
    harness.hub.connect();
    await settle();
    fail(new Error("aborted"));
    await settle();
    assert.deepEqual([harness.link.connect().token, errors, harness.hub.state], ["new", [], "connecting"]);
  });

  test("nothing of the closed connection reaches the next user", async () => {
    const { harness } = countingTokens();
    const received = [];
    harness.hub.channel("orders:1").on("*", (data) => received.push(data));
    await settle();
    await harness.link.accept({ expires_in_s: 3600 });
    const first = harness.link;
    const publish = harness.hub.channel("orders:1").publish("e", 1);
    harness.hub.close();
    await assert.rejects(publish, { code: "closed" });
    harness.hub.connect();
    await settle();
    first.emit("e", "late", "orders:1", "e.9");
    first.emit("tidings:ready", { user: "7", cursor: "e.9", channels: {} });
    first.listener.onLost({ code: "revoked" });
    first.listener.onTransport("polling");
    await settle();
    assert.deepEqual([received, harness.hub.state, harness.hub.transport], [[], "connecting", undefined]);
  });

  test("another user: nothing counts as recovered, and waiting requests are rejected", async () => {
    const { harness } = countingTokens();
    const channel = harness.hub.channel("orders:1");
    const events = [];
    for (const event of /** @type {const} */ (["tidings:gap", "tidings:recovered"])) {
      channel.on(event, () => events.push(event));
    }
    await settle();
    await harness.link.accept({ expires_in_s: 3600 });
    await harness.link.disconnect({ code: "disconnected" });
    const rejected = assert.rejects(channel.publish("e", 1), { code: "closed" });
    await harness.clock.pass(20_000);
    await harness.link.accept({ user: "8", expires_in_s: 3600 });
    await rejected;
    assert.deepEqual([events, harness.hub.user, harness.link.requests], [["tidings:gap"], "8", []]);
  });

  test("another user on the next page: the saved state does not count", async () => {
    const { harness } = countingTokens();
    harness.hub.channel("orders:1").on("e", () => {});
    await settle();
    await harness.link.accept({ expires_in_s: 3600 });
    harness.hub.close();
    const nextPage = new SessionHarness({ getToken: () => "t" }, harness.savedStates.at(-1));
    const events = [];
    nextPage.hub.channel("orders:1").on("tidings:gap", () => events.push("gap"));
    nextPage.hub.channel("orders:1").on("tidings:recovered", () => events.push("recovered"));
    await settle();
    await nextPage.link.accept({ user: "8" });
    assert.deepEqual(events, ["gap"]);
  });

  test("requests that waited for a first connection are not sent by the next user", async () => {
    const tokenOf = (/** @type {string} */ sub) => `x.${btoa(JSON.stringify({ sub })).replaceAll("=", "")}.y`;
    const { harness, application } = countingTokens(() => tokenOf("7"));
    await settle();
    const rejected = assert.rejects(harness.hub.channel("orders:1").publish("e", "of 7"), { code: "closed" });
    await harness.link.disconnect({});
    application.next = () => tokenOf("8");
    harness.hub.connect();
    await settle();
    await harness.link.accept({ user: "8" });
    await rejected;
    assert.deepEqual(harness.link.requests, []);
    // The next token of the same user rejects nothing, whatever its form.
    const published = harness.hub.channel("orders:1").publish("e", "of 8");
    await harness.link.disconnect({ code: "disconnected" });
    application.next = () => "opaque";
    await harness.clock.pass(20_000);
    await harness.link.accept({ user: "8" });
    harness.link.nextRequest("tidings:publish").respond({ id: "1" });
    await published;
  });

  for (const [form, tokenOf] of /** @type {const} */ ([
    ["a JWT", tokenFor],
    ["another token", (/** @type {string} */ user) => `opaque-${user}`],
  ])) {
    test(`requests of the next user wait for the connection, with ${form}`, async () => {
      const { harness, application } = countingTokens(() => tokenOf("7"));
      await settle();
      await harness.link.accept();
      harness.hub.close();
      application.next = () => tokenOf("8");
      harness.hub.connect();
      const published = harness.hub.channel("orders:1").publish("e", "of 8");
      await settle();
      await harness.link.accept({ user: "8" });
      harness.link.nextRequest("tidings:publish").respond({ id: "1" });
      await published;
    });

    test(`requests of a page wait for the connection if the page before had another user, with ${form}`, async () => {
      const saved = { channels: ["orders:1"], cursor: "e.1", user: "7" };
      const harness = new SessionHarness({ getToken: () => tokenOf("8") }, saved);
      const published = harness.hub.channel("orders:1").publish("e", "of 8");
      await settle();
      await harness.link.accept({ user: "8" });
      harness.link.nextRequest("tidings:publish").respond({ id: "1" });
      await published;
    });
  }

  test("hub.user is not the last user any more once a token of another one connects", async () => {
    const { harness, application } = countingTokens(() => tokenFor("7"));
    await settle();
    await harness.link.accept();
    application.next = () => tokenFor("8");
    await harness.link.disconnect({ code: "disconnected" });
    assert.equal(harness.hub.user, "7");
    await harness.clock.pass(20_000);
    assert.deepEqual([harness.hub.state, harness.hub.user], ["connecting", undefined]);
    await harness.link.accept({ user: "8" });
    assert.equal(harness.hub.user, "8");
  });

  test("a refresh that answers for another user rejects nothing until that user is connected", async () => {
    const { harness, application } = countingTokens(() => tokenFor("7"));
    await settle();
    await harness.link.accept({ expires_in_s: 100 });
    application.next = () => tokenFor("8");
    await harness.clock.pass(90_000);
    const refresh = harness.link.nextRequest("tidings:refresh");
    const published = harness.hub.channel("orders:1").publish("e", "of 7");
    harness.link.nextRequest("tidings:publish").respond({ id: "1" });
    await published;
    const rejected = assert.rejects(harness.hub.channel("orders:1").publish("e", "of 7"), { code: "closed" });
    refresh.respond({ error: { code: "forbidden", message: "another user" } });
    await harness.clock.pass(20_000);
    await harness.link.accept({ user: "8" });
    await rejected;
    assert.deepEqual([harness.link.requests, harness.hub.user], [[], "8"]);
  });

  test("a page that the browser keeps and shows again requests a new token", async () => {
    const { harness, application } = countingTokens();
    await settle();
    await harness.link.accept({ expires_in_s: 3600 });
    harness.leave();
    application.next = () => "next";
    harness.wake(true);
    await settle();
    assert.equal(harness.link.connect().token, "next");
  });

  test("a listener that closes and connects again gets the next user's connection, with its time limit", async () => {
    for (const event of /** @type {const} */ (["state", "transport"])) {
      const { harness, application } = countingTokens();
      await settle();
      await harness.link.accept({ expires_in_s: 3600 });
      let isNext = false;
      harness.hub.on(event, () => {
        if (!isNext) {
          isNext = true;
          harness.hub.close();
          application.next = () => "next";
          harness.hub.connect();
        }
      });
      harness.hub.close();
      await settle();
      assert.equal(harness.link.connect().token, "next", event);
      // The hub does not respond: the attempt ends and is repeated.
      const attempts = harness.links.length;
      await harness.clock.pass(30_000);
      assert.ok(harness.links.length > attempts, event);
    }
  });
});
