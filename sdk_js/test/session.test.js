import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SessionHarness, settle } from "./session_harness.js";

/**
 * A connected harness with listeners for these channels, and the events that they emit from then on.
 *
 * @param {string[]} names
 * @param {import("../src/options.js").Options} [options]
 */
async function connected(names, options) {
  const harness = new SessionHarness(options);
  const events = [];
  for (const name of names) {
    const channel = harness.hub.channel(name);
    channel.on("*", (data, meta) => events.push(["*", data, meta.cursor]));
    for (const event of /** @type {const} */ (["tidings:state", "tidings:recovered", "tidings:gap"])) {
      channel.on(event, (/** @type {unknown} */ value) => events.push([event, value]));
    }
  }
  await settle();
  await harness.link.accept();
  events.length = 0;
  return { harness, events, hub: harness.hub };
}

describe("connecting", () => {
  test("CONNECT has the channels with listeners, and tidings:ready sets their states", async () => {
    const harness = new SessionHarness();
    const states = [];
    harness.hub.on("state", (state) => states.push(state));
    const allowed = harness.hub.channel("orders:1");
    const forbidden = harness.hub.channel("orders:2");
    allowed.on("updated", () => {});
    forbidden.on("updated", () => {});
    harness.hub.channel("orders:3");
    harness.hub.channel("user:7").on("hello", () => {});
    await settle();
    const refusal = { error: { code: "forbidden", message: "no" } };
    const auth = await harness.link.accept({
      channels: { "user:7": { recovered: false }, "orders:1": { recovered: false }, "orders:2": refusal },
    });
    assert.deepEqual(auth, { channels: ["orders:1", "orders:2"], pid: null });
    assert.deepEqual([allowed.state, forbidden.state, forbidden.error?.code], ["subscribed", "denied", "forbidden"]);
    assert.equal(harness.hub.channel("user:7").state, "subscribed");
    assert.equal(harness.hub.channel("orders:3").state, "idle");
    assert.deepEqual([harness.hub.user, harness.hub.transport, states], ["7", "websocket", ["connected"]]);
    assert.deepEqual(harness.link.requests, []);
  });

  test("an attempt without a response times out, and polling is tried next", async () => {
    const harness = new SessionHarness();
    await settle();
    harness.link.connect();
    await harness.clock.pass(7999);
    assert.equal(harness.links.length, 1);
    await harness.clock.pass(501);
    assert.equal(harness.links[0].isClosed, true);
    assert.deepEqual(harness.link.transports, ["polling", "websocket"]);
  });

  test("the code decides whether to reconnect", async () => {
    for (const [reason, state] of /** @type {const} */ ([
      [{ code: "draining" }, "waiting"],
      [{ code: "expired" }, "waiting"],
      [{ code: "disconnected" }, "waiting"],
      [{ number: 4008 }, "waiting"],
      [{ number: 1006 }, "waiting"],
      [{ code: "revoked", refused: true, message: "sign in" }, "closed"],
      [{ number: 4504 }, "closed"],
      [{ number: 4012 }, "waiting"],
    ])) {
      const { harness, hub } = await connected([]);
      await harness.link.disconnect(reason);
      assert.equal(hub.state, state, JSON.stringify(reason));
      assert.equal(harness.isWatching, state === "waiting");
      await harness.clock.pass(30_000);
      assert.equal(harness.links.length > 1, state === "waiting");
    }
  });

  test("a final close keeps its reason, and connect() starts again", async () => {
    const { harness, hub } = await connected(["orders:1"]);
    harness.link.emit("updated", 1, "orders:1", "e.4");
    await harness.link.disconnect({ code: "revoked", refused: true, message: "sign in again" });
    assert.deepEqual([hub.error?.code, hub.error?.message], ["revoked", "sign in again"]);
    await assert.rejects(hub.channel("orders:1").publish("a", 1), { code: "revoked" });
    hub.connect();
    await settle();
    assert.deepEqual(harness.link.connect(), { channels: ["orders:1"], since: "e.4", pid: null });
  });

  test("wake reconnects immediately, only while waiting", async () => {
    const { harness } = await connected([]);
    harness.wake();
    assert.equal(harness.links.length, 1);
    await harness.link.disconnect({});
    harness.wake();
    await settle();
    assert.equal(harness.links.length, 2);
    harness.wake();
    await settle();
    assert.equal(harness.links.length, 2);
    await harness.link.accept();
    await harness.clock.pass(60_000);
    assert.equal(harness.links.length, 2);
  });

  test("close() cancels all timers and listeners", async () => {
    const { harness, hub } = await connected(["orders:1"], { getToken: () => "t" });
    const rejection = assert.rejects(hub.channel("orders:1").publish("a", 1), { code: "closed" });
    hub.close();
    await rejection;
    assert.deepEqual([hub.state, harness.link.isClosed], ["closed", true]);
    assert.deepEqual([harness.clock.running, harness.isWatching], [0, false]);
  });
});

describe("publications", () => {
  test("reach the handlers of their event and of * until they are removed", async () => {
    const { harness, hub } = await connected([]);
    const received = [];
    const off = hub.channel("orders:1").on("updated", (data, meta) => received.push([data, meta]));
    hub.channel("orders:1").on("*", (data, meta) => received.push([data, meta.event]));
    await harness.clock.pass(0);
    await harness.link.acceptSubscribe();
    harness.link.emit("updated", { id: 1 }, "orders:1", "e.1");
    harness.link.emit("other", null, "orders:1", "e.2");
    harness.link.emit("updated", 1, "orders:2", "e.3");
    off();
    harness.link.emit("updated", 2, "orders:1", "e.4");
    const meta = { event: "updated", channel: "orders:1", cursor: "e.1" };
    assert.deepEqual(received, [[{ id: 1 }, meta], [{ id: 1 }, "updated"], [null, "other"], [2, "updated"]]);
  });

  test("a repetition does not reach a handler, a repaired publication does", async () => {
    const { harness, events } = await connected(["orders:1", "orders:2"]);
    for (const text of ["orders:1 5", "orders:1 5", "orders:2 3", "orders:1 4", "orders:2 6"]) {
      const [channel, seq] = text.split(" ");
      harness.link.emit("e", Number(seq), channel, `e.${seq}`);
    }
    assert.deepEqual(events.map(([, data]) => data), [5, 3, 6]);
    await harness.link.disconnect({});
    await harness.clock.pass(20_000);
    assert.equal(harness.link.connect().since, "e.6");
  });

  test("a handler that throws does not stop other handlers or the cursor", async (context) => {
    const { harness, hub, events } = await connected(["orders:1"]);
    const timers = [];
    context.mock.method(globalThis, "setTimeout", (/** @type {() => void} */ callback) => timers.push(callback));
    hub.channel("orders:1").on("e", () => {
      throw new TypeError("mine");
    });
    harness.link.emit("e", 1, "orders:1", "e.1");
    assert.equal(events.length, 1);
    assert.throws(timers[0], TypeError);
    await harness.link.disconnect({});
    await harness.clock.pass(20_000);
    assert.equal(harness.link.connect().since, "e.1");
  });

  test("malformed events are reported and ignored", async () => {
    const { harness, hub, events } = await connected(["orders:1"]);
    const errors = [];
    hub.on("error", (error) => errors.push(error.code));
    const hostile = { toString: 1, constructor: 2, __proto__: null };
    for (const values of [[], [1], [1, 2, 3], [1, hostile, "e.1"], [1, "orders:1"], [1, "orders:1", hostile]]) {
      harness.link.emit("updated", ...values);
    }
    assert.deepEqual(new Set(errors), new Set(["bad_packet"]));
    assert.equal(errors.length, 6);
    for (const body of [undefined, null, 7, "x", [], hostile, { channels: 1, cursor: {} }, { channels: null }]) {
      for (const event of ["tidings:ready", "tidings:gap", "tidings:close", "tidings:what", "tidings:"]) {
        harness.link.emit(event, body);
      }
    }
    harness.link.emit("__proto__", 1, "__proto__:constructor", "e.1");
    harness.link.emit("constructor", 2, "orders:1", "__proto__.7");
    harness.link.emit("ok", 3, "orders:1", "e.9");
    assert.deepEqual(events.filter(([kind]) => kind === "*").map(([, data]) => data), [2, 3]);
    await harness.link.disconnect({ code: "internal" });
    await harness.clock.pass(20_000);
    harness.link.connect();
    for (const body of [undefined, null, 7, "x", [], { channels: { "orders:1": null, "user:7": 3 } }]) {
      harness.link.emit("tidings:ready", body);
    }
    assert.equal(hub.state, "connected");
  });
});

describe("recovery", () => {
  test("every channel emits tidings:recovered or tidings:gap", async () => {
    const { harness, events } = await connected(["orders:1", "orders:2", "orders:3"]);
    harness.link.emit("e", 1, "orders:1", "e.5");
    await harness.link.disconnect({ code: "slow" });
    events.length = 0;
    await harness.clock.pass(20_000);
    const auth = await harness.link.accept({
      channels: {
        "orders:1": { recovered: true },
        "orders:2": { recovered: false },
        "orders:3": { error: { code: "forbidden", message: "" } },
      },
    });
    assert.deepEqual(auth, { channels: ["orders:1", "orders:2", "orders:3"], since: "e.5", pid: null });
    assert.deepEqual(events, [
      ["tidings:state", "subscribed"],
      ["tidings:recovered", "orders:1"],
      ["tidings:state", "subscribed"],
      ["tidings:gap", "orders:2"],
      ["tidings:state", "denied"],
    ]);
  });

  test("a gap on a live connection is emitted and moves the cursor", async () => {
    const { harness, events } = await connected(["orders:1", "orders:2"]);
    harness.link.emit("tidings:gap", { cursor: "f.1", channels: { "orders:2": { recovered: false }, "orders:9": {} } });
    assert.deepEqual(events, [["tidings:gap", "orders:2"]]);
    await harness.link.disconnect({});
    await harness.clock.pass(20_000);
    assert.equal(harness.link.connect().since, "f.1");
  });

  test("a new channel on a recovering connection is subscribed without recovery", async () => {
    const { harness, hub } = await connected(["orders:1"]);
    harness.link.emit("e", 1, "orders:1", "e.5");
    await harness.link.disconnect({});
    const events = [];
    hub.channel("orders:2").on("tidings:recovered", () => events.push("recovered"));
    hub.channel("orders:2").on("*", (data) => events.push(data));
    await harness.clock.pass(20_000);
    const auth = await harness.link.accept();
    assert.deepEqual(auth, { channels: ["orders:1"], since: "e.5", pid: null });
    assert.deepEqual(await harness.link.acceptSubscribe("e.8"), { channels: ["orders:2"] });
    // The application loads its data after subscribing, so older publications must be ignored.
    harness.link.emit("e", "old", "orders:2", "e.7");
    harness.link.emit("e", "new", "orders:2", "e.9");
    assert.deepEqual(events, ["new"]);
  });

  test("a subscribe request that was lost with its connection is repeated", async () => {
    const { harness, hub } = await connected([]);
    hub.channel("orders:1").on("e", () => {});
    await harness.clock.pass(0);
    harness.link.nextRequest("tidings:subscribe").fail();
    harness.link.disconnect({});
    await harness.clock.pass(20_000);
    assert.deepEqual(await harness.link.accept(), { channels: [], since: "e.0", pid: null });
    await harness.link.acceptSubscribe();
    assert.equal(hub.channel("orders:1").state, "subscribed");
  });

  test("across pages: the channels of the last page are recovered, and no others", async () => {
    const { harness } = await connected(["orders:1"]);
    harness.link.emit("e", 1, "orders:1", "e.5");
    await harness.clock.pass(2000);
    harness.link.emit("e", 1, "orders:1", "e.6");
    harness.leave();
    assert.deepEqual(harness.savedStates.at(-1), { cursor: "e.6", channels: ["orders:1"], user: "7" });

    const nextPage = new SessionHarness({}, harness.savedStates.at(-1));
    const events = [];
    nextPage.hub.channel("orders:1").on("tidings:recovered", (name) => events.push(name));
    nextPage.hub.channel("orders:2").on("tidings:recovered", (name) => events.push(name));
    await settle();
    assert.deepEqual(await nextPage.link.accept(), { channels: ["orders:1"], since: "e.6", pid: null });
    assert.deepEqual(await nextPage.link.acceptSubscribe(), { channels: ["orders:2"] });
    assert.deepEqual(events, ["orders:1"]);
  });

  test("across pages: a channel that is opened later cannot be recovered", async () => {
    const nextPage = new SessionHarness({}, { cursor: "e.6", channels: ["orders:1"], user: "7" });
    await settle();
    await nextPage.link.accept();
    nextPage.link.emit("e", 1, "user:7", "e.9");
    const events = [];
    await nextPage.link.disconnect({});
    nextPage.hub.channel("orders:1").on("tidings:recovered", (name) => events.push(name));
    await nextPage.clock.pass(20_000);
    assert.deepEqual(await nextPage.link.accept(), { channels: [], since: "e.9", pid: null });
    await nextPage.link.acceptSubscribe();
    assert.deepEqual(events, []);
  });
});

describe("subscribing on a live connection", () => {
  test("changes in one task are one request, and removing and adding a listener at once is none", async () => {
    const { harness, hub } = await connected(["orders:1"]);
    const removers = ["a:1", "a:2"].map((name) => hub.channel(name).on("e", () => {}));
    await harness.clock.pass(0);
    assert.deepEqual(await harness.link.acceptSubscribe(), { channels: ["a:1", "a:2"] });
    removers[0]();
    hub.channel("a:1").on("e", () => {});
    await harness.clock.pass(0);
    assert.deepEqual(harness.link.requests, []);
    removers[1]();
    await harness.clock.pass(0);
    assert.deepEqual(harness.link.nextRequest("tidings:unsubscribe").body, { channels: ["a:2"] });
    assert.equal(hub.channel("a:2").state, "idle");
  });

  test("a listener that is removed before the response causes an unsubscribe", async () => {
    const { harness, hub } = await connected([]);
    hub.channel("a:1").on("e", () => {})();
    await harness.clock.pass(0);
    assert.deepEqual(harness.link.requests, []);
    const off = hub.channel("a:1").on("e", () => {});
    await harness.clock.pass(0);
    off();
    await harness.link.acceptSubscribe();
    await harness.clock.pass(0);
    assert.deepEqual(harness.link.nextRequest("tidings:unsubscribe").body, { channels: ["a:1"] });
  });

  test("a refused request denies its channels, a temporary error reconnects", async () => {
    const { harness, hub } = await connected([]);
    hub.channel("a:1").on("e", () => {});
    await harness.clock.pass(0);
    harness.link.nextRequest("tidings:subscribe").respond({ error: { code: "bad_channel", message: "m" } });
    await settle();
    assert.deepEqual([hub.channel("a:1").state, hub.channel("a:1").error?.code], ["denied", "bad_channel"]);
    hub.channel("a:2").on("e", () => {});
    await harness.clock.pass(0);
    harness.link.nextRequest("tidings:subscribe").respond({ error: { code: "unavailable", message: "m" } });
    await settle();
    await harness.clock.pass(0);
    assert.equal(hub.state, "waiting");
    assert.equal(hub.channel("a:2").state, "subscribing");
  });

  test("a channel that the hub refuses for now is requested again later", async () => {
    const { harness, hub } = await connected([]);
    for (const name of ["a:1", "a:2"]) {
      hub.channel(name).on("e", () => {});
    }
    await harness.clock.pass(0);
    const tooFast = { error: { code: "too_fast", message: "m" } };
    const channels = { "a:1": { recovered: false }, "a:2": tooFast };
    harness.link.nextRequest("tidings:subscribe").respond({ cursor: "e.9", channels });
    await harness.clock.pass(4000);
    assert.deepEqual([hub.channel("a:1").state, hub.channel("a:2").state], ["subscribed", "subscribing"]);
    assert.deepEqual(harness.link.requests, []);
    await harness.clock.pass(6000);
    assert.deepEqual(harness.link.requests[0].body, { channels: ["a:2"] });
    await harness.link.acceptSubscribe();
    assert.equal(hub.channel("a:2").state, "subscribed");
  });

  test("a channel that is refused for now after a reconnect has a gap", async () => {
    const { harness, hub, events } = await connected(["orders:1"]);
    await harness.link.disconnect({});
    await harness.clock.pass(20_000);
    await harness.link.accept({ channels: { "orders:1": { error: { code: "too_fast", message: "m" } } } });
    assert.equal(hub.channel("orders:1").state, "subscribing");
    events.length = 0;
    await harness.clock.pass(10_000);
    await harness.link.acceptSubscribe();
    assert.deepEqual(events, [["tidings:state", "subscribed"], ["tidings:gap", "orders:1"]]);
  });

  test("the close reason takes precedence over a request without a response", async () => {
    const { harness, hub } = await connected([]);
    hub.channel("a:1").on("e", () => {});
    await harness.clock.pass(0);
    harness.link.nextRequest("tidings:subscribe").fail();
    await settle();
    await harness.link.disconnect({ refused: true });
    await harness.clock.pass(0);
    assert.equal(hub.state, "closed");
  });

  test("an unsubscribe by a backend denies the channel, a malformed one is ignored", async () => {
    const { harness, events, hub } = await connected(["orders:1", "orders:2"]);
    for (const channels of [undefined, "orders:1", [7, null, "orders:9"]]) {
      harness.link.emit("tidings:unsubscribed", { channels });
    }
    assert.deepEqual(events, []);
    harness.link.emit("tidings:unsubscribed", { channels: ["orders:1"] });
    assert.deepEqual(events, [["tidings:state", "denied"]]);
    assert.deepEqual([hub.channel("orders:1").error?.code, hub.channel("orders:2").state], ["forbidden", "subscribed"]);
    await harness.clock.pass(60_000);
    assert.deepEqual(harness.link.requests, []);
    // A denied channel is not requested again until there is a new token.
    await harness.link.disconnect({});
    await harness.clock.pass(20_000);
    assert.deepEqual((await harness.link.accept()).channels, ["orders:2"]);
  });

  test("the user's own channel needs no subscribe or unsubscribe request", async () => {
    const { harness, hub } = await connected([]);
    const off = hub.channel("user:7").on("e", () => {});
    await harness.clock.pass(0);
    assert.equal(hub.channel("user:7").state, "subscribed");
    off();
    await harness.clock.pass(0);
    assert.deepEqual(harness.link.requests, []);
  });
});
