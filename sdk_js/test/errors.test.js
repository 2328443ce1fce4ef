// Whatever the hub refuses, and whatever keeps the SDK waiting, is reported: to `hub.on("error")`, to the stores, and
// once to the console.
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { SessionHarness, settle } from "./session_harness.js";

const CHANNEL = "orders:1";
const REFUSED = { code: "unknown_namespace", message: "no namespace 'orders'; add [namespaces.orders]" };

/** @type {string[]} */
let lines = [];
const { warn } = console;
beforeEach(() => {
  lines = [];
  console.warn = (line) => lines.push(line);
});
afterEach(() => {
  console.warn = warn;
});

/** @param {import("../src/options.js").Options} [options] */
async function reporting(options) {
  const harness = new SessionHarness(options);
  const errors = [];
  harness.hub.on("error", (error) => errors.push([error.code, error.channel]));
  await settle();
  return { harness, hub: harness.hub, errors };
}

/** @param {SessionHarness} harness */
async function refuse(harness) {
  await harness.link.accept({ channels: { "user:7": { recovered: false }, [CHANNEL]: { error: REFUSED } } });
}

describe("a refused channel", () => {
  test("is an error of the hub each time, and one line in the console", async () => {
    const { harness, hub, errors } = await reporting();
    const channel = hub.channel(CHANNEL);
    channel.on("*", () => {});
    await refuse(harness);
    assert.deepEqual(errors, [["unknown_namespace", CHANNEL]]);
    assert.deepEqual([channel.error?.channel, channel.error?.message], [CHANNEL, REFUSED.message]);
    await harness.link.disconnect({});
    await harness.clock.pass(2000);
    await refuse(harness);
    assert.deepEqual(errors, [["unknown_namespace", CHANNEL], ["unknown_namespace", CHANNEL]]);
    assert.deepEqual(lines, [`tidings: ${CHANNEL}: ${REFUSED.message} (unknown_namespace)`]);
  });

  test("is one also if the whole request is refused, if a backend ends it, and if it is refused for now", async () => {
    const { harness, hub, errors } = await reporting();
    await harness.link.accept();
    hub.channel(CHANNEL).on("*", () => {});
    await harness.clock.pass(0);
    harness.link.nextRequest("tidings:subscribe").respond({ error: { code: "too_many_channels", message: "" } });
    await settle();
    hub.channel("orders:2").on("*", () => {});
    await harness.clock.pass(0);
    await harness.link.acceptSubscribe();
    harness.link.emit("tidings:unsubscribed", { channels: ["orders:2"] });
    hub.channel("orders:3").on("*", () => {});
    await harness.clock.pass(0);
    const busy = { error: { code: "too_fast", message: "" } };
    harness.link.nextRequest("tidings:subscribe").respond({ cursor: "e.1", channels: { "orders:3": busy } });
    await settle();
    assert.deepEqual(errors, [["too_many_channels", CHANNEL], ["forbidden", "orders:2"], ["too_fast", "orders:3"]]);
    assert.equal(lines.length, 3);
  });

  test("is the error of its list, which is ready once the channel is allowed", async () => {
    const { harness, hub } = await reporting();
    const orders = hub.collection("Order", { channel: CHANNEL, load: () => [{ id: 1, version: 1 }] });
    const states = [];
    orders.subscribe(({ state, error, items }) => states.push([state, error?.code, items.length]));
    await refuse(harness);
    while (states.length < 2) {
      await settle();
    }
    assert.deepEqual(states, [["loading", undefined, 0], ["failed", "unknown_namespace", 1]]);
    await harness.link.disconnect({});
    await harness.clock.pass(2000);
    await harness.link.accept();
    await harness.clock.pass(0);
    await harness.link.acceptSubscribe();
    await harness.clock.pass(0);
    assert.deepEqual(states.slice(2), [["ready", undefined, 1]]);
    harness.link.emit("tidings:unsubscribed", { channels: [CHANNEL] });
    assert.deepEqual(states.slice(3), [["failed", "forbidden", 1]]);
  });

  test("is subscribed once a backend grants it, and its list is loaded again", async () => {
    const { harness, hub } = await reporting();
    let loads = 0;
    const orders = hub.collection("Order", { channel: CHANNEL, load: () => [{ id: 1, version: (loads += 1) }] });
    orders.subscribe(() => {});
    await refuse(harness);
    while (orders.getSnapshot().state === "loading") {
      await settle();
    }
    assert.deepEqual([orders.getSnapshot().state, loads], ["failed", 1]);
    harness.link.emit("tidings:subscribed", { cursor: "e.4", channels: { [CHANNEL]: { recovered: false } } });
    await settle();
    assert.deepEqual([hub.channel(CHANNEL).state, hub.channel(CHANNEL).error], ["subscribed", undefined]);
    assert.deepEqual([orders.getSnapshot().state, orders.getSnapshot().error, loads], ["ready", undefined, 2]);
  });

  test("has no presence: the namespace's refusal is an error of the hub, with its channel", async () => {
    const { harness, hub, errors } = await reporting();
    await harness.link.accept();
    const presence = hub.channel(CHANNEL).presence();
    presence.subscribe(() => {});
    await presence.on("join", () => {});
    while (harness.session.presenceClient === undefined) {
      await settle();
    }
    await harness.clock.pass(0);
    await harness.link.acceptSubscribe();
    await harness.clock.pass(0);
    const refusal = { error: { code: "forbidden", message: "the namespace 'orders' has no presence" } };
    harness.link.nextRequest("tidings:subscribe").respond({ presence: { [CHANNEL]: refusal } });
    await harness.clock.pass(0);
    assert.equal(presence.getSnapshot().error?.code, "forbidden");
    assert.deepEqual(errors, [["forbidden", CHANNEL]]);
  });
});

describe("a connection that does not come about", () => {
  test("has its reason while it waits: one error for each reason until it is connected", async () => {
    const { harness, hub, errors } = await reporting();
    const states = [];
    hub.on("state", (state, error) => states.push([state, error?.code]));
    const unreachable = { message: "https://push.example is not reachable" };
    for (const reason of [unreachable, unreachable, { code: "full", message: "busy" }]) {
      await harness.link.disconnect(reason);
      await harness.clock.pass(4000);
    }
    assert.deepEqual(errors, [["unreachable", undefined], ["full", undefined]]);
    assert.equal(hub.error?.message, "busy");
    await harness.link.accept();
    assert.equal(hub.error, undefined);
    assert.deepEqual(states.slice(-2), [["connecting", "full"], ["connected", undefined]]);
    await harness.link.disconnect(unreachable);
    assert.equal(hub.error?.code, "unreachable");
    // A lost connection alone is no error: the SDK is back in a moment.
    assert.equal(errors.length, 2);
    await harness.clock.pass(4000);
    await harness.link.disconnect(unreachable);
    assert.equal(errors.length, 3);
    assert.equal(lines.length, 2);
  });

  test("because getToken never answers names getToken: once, while each attempt asks it again", async () => {
    let calls = 0;
    const getToken = () => {
      calls += 1;
      return new Promise(() => {});
    };
    const { harness, hub, errors } = await reporting({ getToken });
    await harness.clock.pass(60_000);
    assert.ok(calls > 1);
    assert.equal(hub.error?.code, "no_token");
    assert.deepEqual(errors, [["no_token", undefined]]);
    assert.deepEqual(lines, ["tidings: connection: getToken: No answer in time. (no_token)"]);
  });

  test("although getToken answered is not the fault of getToken", async () => {
    const { harness, hub } = await reporting({ getToken: () => "a.b.c" });
    await harness.clock.pass(9000);
    assert.equal(hub.error?.code, "unreachable");
  });

  test("of which the hub gave the reason is an error also if it was established", async () => {
    for (const code of ["slow", "expired", "disconnected", "revoked", "draining"]) {
      const { harness, hub, errors } = await reporting();
      await harness.link.accept();
      await harness.link.disconnect({ code, refused: code === "revoked" });
      assert.equal(errors.length, code === "draining" ? 0 : 1, code);
      assert.equal(hub.error?.code, code);
    }
  });

  test("a publish waits for the next attempt, whatever failed before", async () => {
    const { harness, hub } = await reporting();
    await harness.link.disconnect({ message: "not reachable" });
    const receipt = hub.channel(CHANNEL).publish("said", 1);
    await harness.clock.pass(4000);
    await harness.link.accept();
    harness.link.nextRequest("tidings:publish").respond({ id: "i", cursor: "e.1", duplicate: false });
    assert.equal((await receipt).cursor, "e.1");
  });

  test("a page from the back/forward cache connects again, without an error", async () => {
    const { harness, errors } = await reporting();
    await harness.link.accept();
    harness.wake();
    await settle();
    assert.equal(harness.links.length, 1);
    harness.wake(true);
    await settle();
    assert.deepEqual([harness.links.length, harness.links[0].isClosed, errors], [2, true, []]);
    await harness.link.accept();
    assert.equal(harness.hub.state, "connected");
  });
});

describe("getToken", () => {
  const PAGE = "<html><body>502 Bad Gateway</body></html>";
  for (const [name, value, text] of /** @type {[string, any, RegExp][]} */ ([
    ["an object", { token: "a.b.c" }, /type object: return text/],
    ["an error page", PAGE, /no token: check the status/],
    ["a token in quotes", '"a.b.c"', /no token/],
    ["a number", 7, /type number/],
  ])) {
    test(`that returns ${name} is an error with the reason, and is called again`, async () => {
      let calls = 0;
      const getToken = () => ((calls += 1) < 3 ? value : " a.b.c\n");
      const { harness, hub, errors } = await reporting({ getToken });
      assert.deepEqual([hub.state, hub.error?.code, harness.links.length], ["waiting", "no_token", 0]);
      assert.match(String(hub.error?.message), text);
      await harness.clock.pass(4000);
      assert.deepEqual(errors, [["no_token", undefined]]);
      assert.ok(!lines.join("").includes("a.b.c"));
      assert.equal(harness.link.connect().token, "a.b.c");
    });
  }

  for (const [name, cause, text] of /** @type {[string, any, string][]} */ ([
    ["a Response", new Response("", { status: 502 }), "502"],
    ["an object with a message", { message: "no session" }, "no session"],
    ["text", "no session", "no session"],
    ["another object", Object.create(null), "no text"],
    ["nothing", undefined, "undefined"],
    ["a Symbol", Symbol("s"), "Symbol(s)"],
  ])) {
    test(`that throws ${name} is an error with the reason`, async () => {
      const { hub } = await reporting({ getToken: () => Promise.reject(cause) });
      assert.deepEqual([hub.state, hub.error?.message], ["waiting", `getToken failed: ${text}`]);
    });
  }

  test("that throws keeps its reason, also when the token expires", async () => {
    let failing = true;
    const cause = new Error("502 from /token");
    const { harness, hub, errors } = await reporting({
      getToken: () => (failing ? Promise.reject(cause) : Promise.resolve("t")),
    });
    assert.deepEqual([hub.error?.message, hub.error?.cause], ["getToken failed: 502 from /token", cause]);
    failing = false;
    await harness.clock.pass(1000);
    await harness.link.accept({ expires_in_s: 100 });
    failing = true;
    await harness.clock.pass(85_000);
    assert.deepEqual(errors.slice(0, 2), [["no_token", undefined], ["no_token", undefined]]);
    assert.equal(hub.state, "connected");
  });

  test("whose new token the hub refuses: the error has the hub's reason", async () => {
    const { harness, hub, errors } = await reporting({ getToken: () => "t" });
    await harness.link.accept({ expires_in_s: 100 });
    await harness.clock.pass(85_000);
    const refusal = { code: "forbidden", message: "the new token belongs to another user" };
    harness.link.nextRequest("tidings:refresh").respond({ error: refusal });
    await settle();
    assert.match(String(hub.error?.message), /refused the new token: .*another user \(forbidden\)/);
    assert.deepEqual(errors, [["disconnected", undefined]]);
  });
});

describe("a closed hub", () => {
  /** A connected hub with a list of one order and a room with one member. */
  async function signedIn() {
    const loads = [];
    const { harness, hub, errors } = await reporting({ getToken: () => "t" });
    const orders = hub.collection("Order", { channel: CHANNEL, load: () => [{ id: loads.push(1), version: 1 }] });
    const room = hub.channel("rooms:1");
    const presence = room.presence();
    orders.subscribe(() => {});
    presence.subscribe(() => {});
    while (harness.session.presenceClient === undefined) {
      await settle();
    }
    await harness.link.accept();
    await harness.clock.pass(0);
    harness.link.nextRequest("tidings:subscribe").respond({ presence: { "rooms:1": { recovered: false } } });
    await harness.clock.pass(0);
    const members = [{ user: "7", info: null }];
    harness.link.nextRequest("tidings:presence").respond({ cursor: "e.1", count: 1, members });
    await harness.clock.pass(0);
    assert.deepEqual([orders.getSnapshot().items.length, presence.getSnapshot().count], [1, 1]);
    return { harness, hub, orders, room, presence, loads, errors };
  }

  test("shows nothing of its user: no models, no members, no channel, no user", async () => {
    const { harness, hub, orders, room, presence, loads, errors } = await signedIn();
    hub.close();
    assert.deepEqual(orders.getSnapshot(), { items: [], state: "loading", error: undefined });
    assert.deepEqual(presence.getSnapshot(), { members: [], count: 0, state: "loading", error: undefined });
    assert.deepEqual([room.state, hub.channel(CHANNEL).state], ["idle", "idle"]);
    assert.deepEqual([hub.user, hub.transport], [undefined, undefined]);
    hub.channel("orders:9").on("*", () => {});
    assert.equal(hub.channel("orders:9").state, "idle");
    await harness.clock.pass(10_000);
    assert.deepEqual([loads.length, harness.clock.running, errors], [1, 0, []]);
    hub.connect();
    assert.equal(room.state, "subscribing");
    await settle();
    await harness.link.accept();
    await harness.clock.pass(0);
    assert.deepEqual(orders.getSnapshot().items, [{ id: 2, version: 1 }]);
  });

  test("shows the next user no model of the one before, also in a list without subscribers", async () => {
    const { harness, hub } = await reporting();
    const orders = hub.collection("Order", { channel: CHANNEL, load: async () => [{ id: 1 }] });
    const off = orders.subscribe(() => {});
    await settle();
    await harness.link.accept();
    await settle();
    assert.equal(orders.getSnapshot().items.length, 1);
    off();
    await harness.clock.pass(0);
    hub.close();
    hub.connect();
    /** @type {number[]} */
    const shown = [];
    orders.subscribe(({ items }) => shown.push(items.length));
    assert.deepEqual(shown, [0]);
  });

  test("that was refused gives its lists the reason", async () => {
    const { harness, hub, orders, presence, errors } = await signedIn();
    await harness.link.disconnect({ code: "revoked", refused: true, message: "sign in again" });
    assert.deepEqual([hub.state, hub.error?.code, errors], ["closed", "revoked", [["revoked", undefined]]]);
    const { items, state, error } = orders.getSnapshot();
    assert.deepEqual([items.length, state, error?.code], [0, "failed", "revoked"]);
    assert.deepEqual([presence.getSnapshot().count, presence.getSnapshot().error?.code], [0, "revoked"]);
    await harness.clock.pass(10_000);
    assert.equal(orders.getSnapshot().error, error);
  });

  test("a list that is created while it is closed waits for connect()", async () => {
    const { harness, hub } = await reporting();
    hub.close();
    let loads = 0;
    const orders = hub.collection("Order", { channel: CHANNEL, load: () => [{ id: (loads += 1) }] });
    orders.subscribe(() => {});
    await harness.clock.pass(10_000);
    assert.equal(loads, 0);
    hub.connect();
    await harness.clock.pass(2000);
    // Without an answer of the hub the list is loaded anyway.
    assert.equal(orders.getSnapshot().items.length, 1);
  });
});
