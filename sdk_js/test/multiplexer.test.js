import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Multiplexer } from "../src/tabs/multiplexer.js";
import { settle, TestLink } from "./session_harness.js";

/**
 * A multiplexer whose own link has `a:1`, and the events sent to its links since it was ready.
 *
 * @typedef {import("../src/tabs/join_request.js").JoinOptions} JoinOptions
 * @param {Record<string, JoinOptions>} [others] links that are added before CONNECT
 */
async function openMultiplexer(others = {}) {
  const sent = [];
  /** @type {TestLink | undefined} */
  let link;
  const open = (listener) => (link = new TestLink(["websocket"], listener));
  const multiplexer = new Multiplexer("own", () => ({ token: "t", channels: ["a:1"] }), open, (ids, message) => {
    for (const part of ids.length === 0 ? [] : "events" in message ? message.events : [message]) {
      sent.push(ids.toSorted().concat("event" in part ? [part.event, part.values[0]] : [Object.keys(part)[0]]));
    }
  });
  Object.entries(others).forEach(([id, options]) => multiplexer.addLink(id, options));
  const hub = /** @type {TestLink} */ (/** @type {unknown} */ (link));
  const presenceNames = Object.values(others).flatMap(({ presence = [] }) => presence);
  const presence = Object.fromEntries(presenceNames.map((name) => [name, { recovered: false }]));
  const auth = await hub.accept({ expires_in_s: 60, presence });
  const initial = sent.splice(0);
  const request = (id, event, body) => multiplexer.request(id, event, body, 1000);
  return { multiplexer, hub, sent, auth, initial, request };
}

/** Responds to the next subscribe request. */
async function respondSubscribe(hub, channels, more = {}) {
  const { body, respond } = hub.nextRequest("tidings:subscribe");
  respond({ cursor: "e.9", channels, ...more });
  await settle();
  return body;
}

describe("adding links", () => {
  test("CONNECT has the channels of all links so far, and one token", async () => {
    const { auth, initial } = await openMultiplexer({ two: { channels: ["a:1", "b:1"], presence: ["b:1"] } });
    assert.deepEqual(auth, { token: "t", channels: ["a:1", "b:1"], presence: ["b:1"] });
    const ready = initial.filter(([, event]) => event === "tidings:ready");
    const [two, own] = ready.map(([id, , body]) => ({ id, ...body }));
    assert.deepEqual([own.id, own.expires_in_s, two.id, two.expires_in_s], ["own", 60, "two", undefined]);
    assert.deepEqual(own.channels, { "a:1": { recovered: false }, "user:7": { recovered: false } });
    assert.deepEqual(two.presence, { "b:1": { recovered: false } });
  });

  test("links that recover are subscribed first, and the others afterwards", async () => {
    const { auth, hub, initial } = await openMultiplexer({
      two: { channels: ["a:1"], since: "e.5" },
      three: { channels: ["b:1"], since: "e.3" },
    });
    assert.deepEqual([auth.channels, auth.since], [["a:1", "b:1"], "e.3"]);
    // The channel of the own link is granted already: there is nothing left to request.
    assert.deepEqual(hub.requests, []);
    const ready = initial.filter(([, event]) => event === "tidings:ready");
    const results = ready.map(([id, , body]) => [id, body.channels["a:1"]]);
    assert.deepEqual(results, [["two", { recovered: true }], ["three", undefined], ["own", { recovered: false }]]);
  });

  test("a granted channel needs no request; a cursor needs one, from the lowest cursor", async () => {
    const { multiplexer, hub, sent } = await openMultiplexer();
    hub.emit("x", 1, "a:1", "e.4");
    multiplexer.addLink("two", { channels: ["a:1"] });
    await settle();
    assert.deepEqual(hub.requests, []);
    assert.deepEqual(sent.at(-1)[2].cursor, "e.4");
    multiplexer.addLink("three", { channels: ["a:1"], since: "e.6" });
    await settle();
    sent.length = 0;
    hub.emit("x", 2, "a:1", "e.5");
    assert.deepEqual(sent, []);
    const granted = { recovered: true };
    const body = await respondSubscribe(hub, { "a:1": granted, "user:7": granted });
    assert.deepEqual(body, { channels: ["a:1", "user:7"], presence: [], since: "e.4" });
    assert.deepEqual(sent.map(([id, event]) => [id, event]), [
      ["own", "x"],
      ["two", "x"],
      ["three", "transport"],
      ["three", "tidings:ready"],
      ["three", "x"],
    ]);
  });

  test("a failed recovery is a gap for every link with the channel", async () => {
    const { multiplexer, hub, sent } = await openMultiplexer({ closing: { channels: ["b:1"] } });
    multiplexer.addLink("two", { channels: ["a:1", "b:2"], since: "e.0" });
    await settle();
    hub.emit("x", 1, "a:1", "e.8");
    const granted = { recovered: true };
    await respondSubscribe(hub, { "a:1": { recovered: false }, "b:2": granted, "user:7": granted });
    const lost = { "a:1": { recovered: false } };
    assert.deepEqual(sent, [
      ["own", "x", 1],
      ["own", "tidings:gap", { cursor: "e.8", channels: lost, presence: {} }],
      ["two", "transport"],
      ["two", "tidings:ready", { ...sent[3][2], cursor: "e.8", channels: { ...sent[3][2].channels, ...lost } }],
    ]);
  });

  test("an invalid cursor or one of another epoch does not affect other links", async () => {
    const { multiplexer, hub, sent } = await openMultiplexer();
    multiplexer.addLink("two", { channels: ["a:1"], since: "rubbish" });
    multiplexer.addLink("three", { channels: ["a:1"], since: "d.4" });
    await settle();
    assert.deepEqual(hub.requests, []);
    const ready = sent.filter(([, event]) => event === "tidings:ready");
    assert.deepEqual(ready.map(([id, , body]) => [id, body.channels["a:1"]]), [
      ["three", { recovered: false }],
      ["two", { recovered: false }],
    ]);
  });
});

describe("channels and presence of several links", () => {
  test("are unsubscribed when no link has them any more", async () => {
    const two = { channels: ["a:1", "b:1"], presence: ["b:1"] };
    const { multiplexer, hub, request } = await openMultiplexer({ two });
    assert.deepEqual(await request("two", "tidings:unsubscribe", { channels: ["a:1"] }), {});
    await settle();
    assert.deepEqual(hub.requests, []);
    await request("two", "tidings:unsubscribe", { presence: ["b:1"] });
    await settle();
    const unsubscribe = hub.nextRequest("tidings:unsubscribe");
    assert.deepEqual(unsubscribe.body, { channels: [], presence: ["b:1"] });
    unsubscribe.respond({});
    multiplexer.removeLink("two");
    await settle();
    assert.deepEqual(hub.nextRequest("tidings:unsubscribe").body, { channels: ["b:1"], presence: [] });
  });

  test("join and leave events reach only links that subscribed to them", async () => {
    const { hub, sent, request } = await openMultiplexer({ two: { channels: ["a:1"], presence: ["a:1"] } });
    hub.emit("tidings:join", { members: [] }, "a:1", "e.3");
    hub.emit("x", 1, "a:1", "e.4");
    assert.deepEqual(sent.map((message) => message.slice(0, -1)), [["two", "tidings:join"], ["own", "two", "x"]]);
    const response = request("own", "tidings:subscribe", { presence: ["a:1"] });
    await settle();
    assert.deepEqual((await response).presence, { "a:1": { recovered: false } });
    hub.emit("tidings:leave", { users: [] }, "a:1", "e.5");
    assert.deepEqual(sent.at(-1).slice(0, 3), ["own", "two", "tidings:leave"]);
    // Subscribing again without presence ends these events.
    await request("two", "tidings:subscribe", { channels: ["a:1"] });
    hub.emit("tidings:leave", { users: [] }, "a:1", "e.6");
    assert.deepEqual(sent.at(-1).slice(0, 2), ["own", "tidings:leave"]);
  });

  test("a presence result without recovery is a gap for every link with this presence", async () => {
    const { multiplexer, hub, sent } = await openMultiplexer({ two: { channels: ["a:1"], presence: ["a:1"] } });
    multiplexer.addLink("three", { channels: ["a:1"], since: "e.0" });
    await settle();
    const granted = { recovered: true };
    const lost = { "a:1": { recovered: false } };
    const body = await respondSubscribe(hub, { "a:1": granted, "user:7": granted }, { presence: lost });
    assert.deepEqual(body.presence, ["a:1"]);
    assert.deepEqual(sent[0], ["two", "tidings:gap", { cursor: "e.0", channels: {}, presence: lost }]);
  });

  test("events of the hub reach the links that they concern", async () => {
    const { hub, sent, request } = await openMultiplexer({ two: { channels: ["b:1"] } });
    hub.emit("tidings:expiring", { expires_in_s: 3 });
    hub.emit("tidings:gap", { cursor: "e.5", channels: {} }, "e.5");
    hub.emit("tidings:subscribed", { cursor: "e.6", channels: { "c:1": { recovered: false } } }, "e.6");
    hub.emit("x", 1, "c:1", "e.7");
    hub.emit("tidings:unsubscribed", { channels: ["c:1"] });
    hub.emit("x", 2, "c:1", "e.8");
    assert.deepEqual(sent.map((message) => message.slice(0, -1)), [
      ["own", "tidings:expiring"],
      ["own", "two", "tidings:gap"],
      ["own", "two", "tidings:subscribed"],
      ["own", "two", "x"],
      ["own", "two", "tidings:unsubscribed"],
    ]);
    // It is no longer granted, so it is requested from the hub.
    void request("two", "tidings:subscribe", { channels: ["c:1"] });
    await settle();
    assert.deepEqual(hub.nextRequest("tidings:subscribe").body.channels, ["c:1"]);
  });
});

describe("errors", () => {
  test("a refusal affects one link; a token refresh drops refused links and uncovered channels", async () => {
    const { hub, sent, request } = await openMultiplexer({ two: { channels: ["b:1"] }, three: { channels: ["c:1"] } });
    const refused = request("two", "tidings:subscribe", { channels: ["d:1"] });
    await settle();
    hub.nextRequest("tidings:subscribe").respond({ error: { code: "forbidden", message: "m" } });
    assert.deepEqual((await refused).channels, { "d:1": { error: { code: "forbidden", message: "m" } } });
    assert.deepEqual(sent, []);
    const renewed = request("own", "tidings:refresh", { token: "u" });
    await settle();
    hub.nextRequest("tidings:refresh").respond({ expires_in_s: 60, left: ["c:1"] });
    assert.deepEqual(await renewed, { expires_in_s: 60, left: ["c:1"] });
    assert.deepEqual(sent, [["three", "two", "lost"]]);
  });

  for (const [reason, fail] of /** @type {const} */ ([
    ["no response", (request) => request.fail()],
    ["an error", (request) => request.respond({ error: { code: "too_large", message: "" } })],
    ["an unsubscribe by a backend", (_, hub) => hub.emit("tidings:unsubscribed", { channels: ["a:1"] })],
  ])) {
    test(`${reason} during a recovery closes the connection and all links`, async () => {
      const { multiplexer, hub, sent } = await openMultiplexer({ two: { channels: ["b:1"] } });
      multiplexer.addLink("three", { channels: ["a:1"], since: "e.0" });
      await settle();
      fail(hub.nextRequest("tidings:subscribe"), hub);
      await settle();
      assert.deepEqual(sent, [["three", "two", "lost"], ["own", "lost"]].slice(sent.length - 2));
      assert.equal(hub.isClosed, true);
    });
  }

  test("a lost connection ends all links; the leader's own close does not notify the leader", async () => {
    const leader = await openMultiplexer({ two: { channels: ["b:1"] } });
    const response = leader.request("two", "tidings:subscribe", { channels: ["b:2"] });
    await leader.hub.disconnect({ code: "draining" });
    assert.deepEqual(leader.sent, [["two", "lost"], ["own", "lost"]]);
    void response;
    const closing = await openMultiplexer({ two: { channels: ["b:1"] } });
    closing.multiplexer.close();
    assert.deepEqual(closing.sent, [["two", "lost"]]);
    await assert.rejects(closing.request("own", "tidings:refresh", { token: "u" }));
    await assert.rejects(closing.request("stranger", "tidings:publish", {}));
  });
});

test("publications of the hub itself reach every link of the channel, presence those that request it", async () => {
  const { hub, sent } = await openMultiplexer({ two: { channels: ["a:1"], presence: ["a:1"] } });
  hub.emit("tidings:notification", { version: 1 }, "user:7", "e.1");
  hub.emit("tidings:inbox", { version: 2 }, "user:7", "e.2");
  hub.emit("tidings:job", { id: "7f" }, "user:7", "e.3");
  hub.emit("tidings:stats", { count: 2 }, "a:1", "e.4");
  assert.deepEqual(sent, [
    ["own", "two", "tidings:notification", { version: 1 }],
    ["own", "two", "tidings:inbox", { version: 2 }],
    ["own", "two", "tidings:job", { id: "7f" }],
    ["two", "tidings:stats", { count: 2 }],
  ]);
});
