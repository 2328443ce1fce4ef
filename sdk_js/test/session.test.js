import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { settle, TestPair } from "./pair.js";

/**
 * A pair that is connected, with these channels listened to, and what they told.
 *
 * @param {string[]} names
 * @param {import("../src/hub.js").Options} [options]
 */
async function connected(names, options) {
  const pair = new TestPair(options);
  const told = [];
  for (const name of names) {
    const channel = pair.hub.channel(name);
    channel.on("*", (data, meta) => told.push(["*", data, meta.cursor]));
    for (const event of /** @type {const} */ (["tidings:state", "tidings:recovered", "tidings:gap"])) {
      channel.on(event, (/** @type {unknown} */ value) => told.push([event, value]));
    }
  }
  await settle();
  await pair.link.accept();
  told.length = 0;
  return { pair, told, hub: pair.hub };
}

describe("connecting", () => {
  test("CONNECT names what is listened to, and ready settles each channel", async () => {
    const pair = new TestPair();
    const states = [];
    pair.hub.on("state", (state) => states.push(state));
    const good = pair.hub.channel("orders:1");
    const bad = pair.hub.channel("orders:2");
    good.on("updated", () => {});
    bad.on("updated", () => {});
    pair.hub.channel("orders:3");
    pair.hub.channel("user:7").on("hello", () => {});
    await settle();
    const refusal = { error: { code: "forbidden", message: "no" } };
    const auth = await pair.link.accept({
      channels: { "user:7": { recovered: false }, "orders:1": { recovered: false }, "orders:2": refusal },
    });
    assert.deepEqual(auth, { channels: ["orders:1", "orders:2"], pid: null });
    assert.deepEqual([good.state, bad.state, bad.error?.code], ["subscribed", "denied", "forbidden"]);
    assert.equal(pair.hub.channel("user:7").state, "subscribed");
    assert.equal(pair.hub.channel("orders:3").state, "idle");
    assert.deepEqual([pair.hub.user, pair.hub.transport, states], ["7", "websocket", ["connected"]]);
    assert.deepEqual(pair.link.asked, []);
  });

  test("a hub that never answers is given up, and polling is tried", async () => {
    const pair = new TestPair();
    await settle();
    pair.link.connect();
    await pair.clock.pass(7999);
    assert.equal(pair.links.length, 1);
    await pair.clock.pass(501);
    assert.equal(pair.links[0].closed, true);
    assert.deepEqual(pair.link.transports, ["polling", "websocket"]);
  });

  test("a code decides whether to come back", async () => {
    for (const [end, state] of /** @type {const} */ ([
      [{ code: "draining" }, "waiting"],
      [{ code: "expired" }, "waiting"],
      [{ code: "disconnected" }, "waiting"],
      [{ number: 4008 }, "waiting"],
      [{ number: 1006 }, "waiting"],
      [{ code: "revoked", refused: true, message: "sign in" }, "closed"],
      [{ number: 4505 }, "closed"],
    ])) {
      const { pair, hub } = await connected([]);
      await pair.link.lose(end);
      assert.equal(hub.state, state, JSON.stringify(end));
      assert.equal(pair.watching, state === "waiting");
      await pair.clock.pass(30_000);
      assert.equal(pair.links.length > 1, state === "waiting");
    }
  });

  test("closed for good: the reason is kept, and connect() begins anew", async () => {
    const { pair, hub } = await connected(["orders:1"]);
    pair.link.say("updated", 1, "orders:1", "e.4");
    await pair.link.lose({ code: "revoked", refused: true, message: "sign in again" });
    assert.deepEqual([hub.error?.code, hub.error?.message], ["revoked", "sign in again"]);
    await assert.rejects(hub.channel("orders:1").publish("a", 1), { code: "revoked" });
    hub.connect();
    await settle();
    assert.deepEqual(pair.link.connect(), { channels: ["orders:1"], since: "e.4", pid: null });
  });

  test("at once when the network is back or the page is shown, and only then", async () => {
    const { pair } = await connected([]);
    pair.wake();
    assert.equal(pair.links.length, 1);
    await pair.link.lose({});
    pair.wake();
    await settle();
    assert.equal(pair.links.length, 2);
    pair.wake();
    await settle();
    assert.equal(pair.links.length, 2);
    await pair.link.accept();
    await pair.clock.pass(60_000);
    assert.equal(pair.links.length, 2);
  });

  test("close() leaves nothing running", async () => {
    const { pair, hub } = await connected(["orders:1"], { getToken: () => "t" });
    const waiting = assert.rejects(hub.channel("orders:1").publish("a", 1), { code: "closed" });
    hub.close();
    await waiting;
    assert.deepEqual([hub.state, pair.link.closed, pair.clock.running, pair.watching], ["closed", true, 0, false]);
  });
});

describe("publications", () => {
  test("reach the handlers of their event and of *, until those end", async () => {
    const { pair, hub } = await connected([]);
    const got = [];
    const off = hub.channel("orders:1").on("updated", (data, meta) => got.push([data, meta]));
    hub.channel("orders:1").on("*", (data, meta) => got.push([data, meta.event]));
    await pair.clock.pass(0);
    await pair.link.grant();
    pair.link.say("updated", { id: 1 }, "orders:1", "e.1");
    pair.link.say("other", null, "orders:1", "e.2");
    pair.link.say("updated", 1, "orders:2", "e.3");
    off();
    pair.link.say("updated", 2, "orders:1", "e.4");
    const meta = { event: "updated", channel: "orders:1", cursor: "e.1" };
    assert.deepEqual(got, [[{ id: 1 }, meta], [{ id: 1 }, "updated"], [null, "other"], [2, "updated"]]);
  });

  test("a repetition never reaches a handler, a late repair does", async () => {
    const { pair, told } = await connected(["orders:1", "orders:2"]);
    for (const came of ["orders:1 5", "orders:1 5", "orders:2 3", "orders:1 4", "orders:2 6"]) {
      const [channel, seq] = came.split(" ");
      pair.link.say("e", Number(seq), channel, `e.${seq}`);
    }
    assert.deepEqual(told.map(([, data]) => data), [5, 3, 6]);
    await pair.link.lose({});
    await pair.clock.pass(20_000);
    assert.equal(pair.link.connect().since, "e.6");
  });

  test("a handler that throws keeps neither the others nor the cursor", async (context) => {
    const { pair, hub, told } = await connected(["orders:1"]);
    const thrown = [];
    context.mock.method(globalThis, "setTimeout", (/** @type {() => void} */ tell) => thrown.push(tell));
    hub.channel("orders:1").on("e", () => {
      throw new TypeError("mine");
    });
    pair.link.say("e", 1, "orders:1", "e.1");
    assert.equal(told.length, 1);
    assert.throws(thrown[0], TypeError);
    await pair.link.lose({});
    await pair.clock.pass(20_000);
    assert.equal(pair.link.connect().since, "e.1");
  });

  test("garbage is told and survived", async () => {
    const { pair, hub, told } = await connected(["orders:1"]);
    const errors = [];
    hub.on("error", (error) => errors.push(error.code));
    const evil = { toString: 1, constructor: 2, __proto__: null };
    for (const values of [[], [1], [1, 2, 3], [1, evil, "e.1"], [1, "orders:1"], [1, "orders:1", evil]]) {
      pair.link.say("updated", ...values);
    }
    assert.deepEqual(new Set(errors), new Set(["bad_packet"]));
    assert.equal(errors.length, 6);
    for (const said of [undefined, null, 7, "x", [], evil, { channels: 1, cursor: {} }, { channels: null }]) {
      for (const event of ["tidings:ready", "tidings:gap", "tidings:close", "tidings:what", "tidings:"]) {
        pair.link.say(event, said);
      }
    }
    pair.link.say("__proto__", 1, "__proto__:constructor", "e.1");
    pair.link.say("constructor", 2, "orders:1", "__proto__.7");
    pair.link.say("ok", 3, "orders:1", "e.9");
    assert.deepEqual(told.filter(([kind]) => kind === "*").map(([, data]) => data), [2, 3]);
    await pair.link.lose({ code: "internal" });
    await pair.clock.pass(20_000);
    pair.link.connect();
    for (const said of [undefined, null, 7, "x", [], { channels: { "orders:1": null, "user:7": 3 } }]) {
      pair.link.say("tidings:ready", said);
    }
    assert.equal(hub.state, "connected");
  });
});

describe("recovery", () => {
  test("every channel is told whether it is complete", async () => {
    const { pair, told } = await connected(["orders:1", "orders:2", "orders:3"]);
    pair.link.say("e", 1, "orders:1", "e.5");
    await pair.link.lose({ code: "slow" });
    told.length = 0;
    await pair.clock.pass(20_000);
    const auth = await pair.link.accept({
      channels: {
        "orders:1": { recovered: true },
        "orders:2": { recovered: false },
        "orders:3": { error: { code: "forbidden", message: "" } },
      },
    });
    assert.deepEqual(auth, { channels: ["orders:1", "orders:2", "orders:3"], since: "e.5", pid: null });
    assert.deepEqual(told, [
      ["tidings:state", "subscribed"],
      ["tidings:recovered", "orders:1"],
      ["tidings:state", "subscribed"],
      ["tidings:gap", "orders:2"],
      ["tidings:state", "denied"],
    ]);
  });

  test("a gap on a live connection", async () => {
    const { pair, told } = await connected(["orders:1", "orders:2"]);
    pair.link.say("tidings:gap", { cursor: "f.1", channels: { "orders:2": { recovered: false }, "orders:9": {} } });
    assert.deepEqual(told, [["tidings:gap", "orders:2"]]);
    await pair.link.lose({});
    await pair.clock.pass(20_000);
    assert.equal(pair.link.connect().since, "f.1");
  });

  test("a channel that is new on a connection that recovers begins afresh", async () => {
    const { pair, hub } = await connected(["orders:1"]);
    pair.link.say("e", 1, "orders:1", "e.5");
    await pair.link.lose({});
    const told = [];
    hub.channel("orders:2").on("tidings:recovered", () => told.push("recovered"));
    hub.channel("orders:2").on("*", (data) => told.push(data));
    await pair.clock.pass(20_000);
    const auth = await pair.link.accept();
    assert.deepEqual(auth, { channels: ["orders:1"], since: "e.5", pid: null });
    assert.deepEqual(await pair.link.grant("e.8"), { channels: ["orders:2"] });
    // What the hub gives again of the time before the subscription is in what the application loads.
    pair.link.say("e", "old", "orders:2", "e.7");
    pair.link.say("e", "new", "orders:2", "e.9");
    assert.deepEqual(told, ["new"]);
  });

  test("a subscription that was cut off before its answer is asked for anew", async () => {
    const { pair, hub } = await connected([]);
    hub.channel("orders:1").on("e", () => {});
    await pair.clock.pass(0);
    pair.link.next("tidings:subscribe").fail();
    pair.link.lose({});
    await pair.clock.pass(20_000);
    assert.deepEqual(await pair.link.accept(), { channels: [], since: "e.0", pid: null });
    await pair.link.grant();
    assert.equal(hub.channel("orders:1").state, "subscribed");
  });

  test("across pages: what the last one had is recovered, and nothing else", async () => {
    const { pair } = await connected(["orders:1"]);
    pair.link.say("e", 1, "orders:1", "e.5");
    await pair.clock.pass(2000);
    pair.link.say("e", 1, "orders:1", "e.6");
    pair.leave();
    assert.deepEqual(pair.keeps.at(-1), { cursor: "e.6", channels: ["orders:1"] });

    const next = new TestPair({}, pair.keeps.at(-1));
    const told = [];
    next.hub.channel("orders:1").on("tidings:recovered", (name) => told.push(name));
    next.hub.channel("orders:2").on("tidings:recovered", (name) => told.push(name));
    await settle();
    assert.deepEqual(await next.link.accept(), { channels: ["orders:1"], since: "e.6", pid: null });
    assert.deepEqual(await next.link.grant(), { channels: ["orders:2"] });
    assert.deepEqual(told, ["orders:1"]);
  });

  test("across pages: a channel that is opened late cannot be recovered any more", async () => {
    const next = new TestPair({}, { cursor: "e.6", channels: ["orders:1"] });
    await settle();
    await next.link.accept();
    next.link.say("e", 1, "user:7", "e.9");
    const told = [];
    await next.link.lose({});
    next.hub.channel("orders:1").on("tidings:recovered", (name) => told.push(name));
    await next.clock.pass(20_000);
    assert.deepEqual(await next.link.accept(), { channels: [], since: "e.9", pid: null });
    await next.link.grant();
    assert.deepEqual(told, []);
  });
});

describe("subscribing on a live connection", () => {
  test("what changes in one go is one request, and who leaves and returns at once asks nothing", async () => {
    const { pair, hub } = await connected(["orders:1"]);
    const offs = ["a:1", "a:2"].map((name) => hub.channel(name).on("e", () => {}));
    await pair.clock.pass(0);
    assert.deepEqual(await pair.link.grant(), { channels: ["a:1", "a:2"] });
    offs[0]();
    hub.channel("a:1").on("e", () => {});
    await pair.clock.pass(0);
    assert.deepEqual(pair.link.asked, []);
    offs[1]();
    await pair.clock.pass(0);
    assert.deepEqual(pair.link.next("tidings:unsubscribe").body, { channels: ["a:2"] });
    assert.equal(hub.channel("a:2").state, "idle");
  });

  test("who leaves before the answer", async () => {
    const { pair, hub } = await connected([]);
    hub.channel("a:1").on("e", () => {})();
    await pair.clock.pass(0);
    assert.deepEqual(pair.link.asked, []);
    const off = hub.channel("a:1").on("e", () => {});
    await pair.clock.pass(0);
    off();
    await pair.link.grant();
    await pair.clock.pass(0);
    assert.deepEqual(pair.link.next("tidings:unsubscribe").body, { channels: ["a:1"] });
  });

  test("a refusal of the whole request, and one that is only for now", async () => {
    const { pair, hub } = await connected([]);
    hub.channel("a:1").on("e", () => {});
    await pair.clock.pass(0);
    pair.link.next("tidings:subscribe").answer({ error: { code: "bad_channel", message: "m" } });
    await settle();
    assert.deepEqual([hub.channel("a:1").state, hub.channel("a:1").error?.code], ["denied", "bad_channel"]);
    hub.channel("a:2").on("e", () => {});
    await pair.clock.pass(0);
    pair.link.next("tidings:subscribe").answer({ error: { code: "unavailable", message: "m" } });
    await settle();
    await pair.clock.pass(0);
    assert.equal(hub.state, "waiting");
    assert.equal(hub.channel("a:2").state, "subscribing");
  });

  test("a link that ends for good while something is asked of it is not taken for a late answer", async () => {
    const { pair, hub } = await connected([]);
    hub.channel("a:1").on("e", () => {});
    await pair.clock.pass(0);
    pair.link.next("tidings:subscribe").fail();
    await settle();
    await pair.link.lose({ refused: true });
    await pair.clock.pass(0);
    assert.equal(hub.state, "closed");
  });

  test("a backend takes a channel away: it is said, and garbage in its place is not", async () => {
    const { pair, told, hub } = await connected(["orders:1", "orders:2"]);
    for (const channels of [undefined, "orders:1", [7, null, "orders:9"]]) {
      pair.link.say("tidings:unsubscribed", { channels });
    }
    assert.deepEqual(told, []);
    pair.link.say("tidings:unsubscribed", { channels: ["orders:1"] });
    assert.deepEqual(told, [["tidings:state", "denied"]]);
    assert.deepEqual([hub.channel("orders:1").error?.code, hub.channel("orders:2").state], ["forbidden", "subscribed"]);
    await pair.clock.pass(60_000);
    assert.deepEqual(pair.link.asked, []);
    // As after every refusal: not asked for again before there is a new token.
    await pair.link.lose({});
    await pair.clock.pass(20_000);
    assert.deepEqual((await pair.link.accept()).channels, ["orders:2"]);
  });

  test("the user's own channel needs no request and cannot be left", async () => {
    const { pair, hub } = await connected([]);
    const off = hub.channel("user:7").on("e", () => {});
    await pair.clock.pass(0);
    assert.equal(hub.channel("user:7").state, "subscribed");
    off();
    await pair.clock.pass(0);
    assert.deepEqual(pair.link.asked, []);
  });
});
