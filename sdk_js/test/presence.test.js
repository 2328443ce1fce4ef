import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Attendance } from "../src/attendance.js";
import { Roll } from "../src/core/roll.js";
import { UNKNOWN } from "../src/presence.js";
import { settle, TestPair } from "./pair.js";

const ROOM = "room:1";
const ANN = { user: "ann", info: { name: "Ann" } };
const BOB = { user: "bob", info: null };
const EVE = { user: "eve", info: null };

const usersOf = (snapshot) => snapshot.members?.map(({ user }) => user) ?? null;

describe("roll", () => {
  /** A roll with Ann and Bob in it, as of `e.10`. */
  function known() {
    const roll = new Roll(UNKNOWN);
    roll.see("subscribed", undefined);
    assert.equal(roll.next(), "watch");
    roll.answered({ recovered: false });
    assert.equal(roll.next(), "load");
    roll.loaded({ cursor: "e.10", count: 2, members: [ANN, BOB] });
    return roll;
  }

  test("asks for joins and leaves first, then for the list, and each once", () => {
    const roll = new Roll(UNKNOWN);
    assert.equal(roll.next(), undefined);
    roll.see("subscribed", undefined);
    assert.deepEqual([roll.next(), roll.next()], ["watch", undefined]);
    roll.answered({ recovered: false });
    assert.deepEqual([roll.next(), roll.next()], ["load", undefined]);
    assert.deepEqual(roll.loaded({ cursor: "e.1", count: 1, members: [ANN] }), { joined: [], left: [] });
    assert.equal(roll.next(), undefined);
    assert.deepEqual(roll.snapshot, { members: [ANN], count: 1, state: "ready", error: undefined });
  });

  test("an event that is not beyond the answer changes nothing, one that is does", () => {
    const roll = known();
    assert.equal(roll.hear("tidings:leave", { users: ["ann"], count: 1 }, "e.9"), undefined);
    assert.equal(roll.hear("tidings:leave", { users: ["ann"], count: 1 }, "e.10"), undefined);
    const leave = { users: ["ann", "who"], count: 1 };
    assert.deepEqual(roll.hear("tidings:leave", leave, "e.11"), { joined: [], left: [ANN] });
    assert.deepEqual(roll.hear("tidings:join", { members: [EVE], count: 2 }, "e.12"), { joined: [EVE], left: [] });
    assert.equal(roll.hear("tidings:join", { members: [ANN], count: 3 }, "e.12"), undefined);
    assert.deepEqual([usersOf(roll.snapshot), roll.snapshot.count], [["bob", "eve"], 2]);
  });

  test("an event before the first answer is in the answer", () => {
    const roll = new Roll(UNKNOWN);
    roll.see("subscribed", undefined);
    roll.next();
    roll.answered({ recovered: false });
    roll.next();
    assert.equal(roll.hear("tidings:join", { members: [BOB], count: 2 }, "e.5"), undefined);
    assert.equal(roll.snapshot, UNKNOWN);
    roll.loaded({ cursor: "e.5", count: 2, members: [ANN, BOB] });
    assert.equal(roll.hear("tidings:join", { members: [BOB], count: 2 }, "e.5"), undefined);
    assert.deepEqual(usersOf(roll.snapshot), ["ann", "bob"]);
  });

  test("a join of who is there already brings their info, and is none", () => {
    const roll = known();
    const news = { user: "bob", info: { name: "Bob" } };
    assert.deepEqual(roll.hear("tidings:join", { members: [news], count: 2 }, "e.11"), { joined: [], left: [] });
    assert.deepEqual(roll.snapshot.members, [ANN, news]);
  });

  test("a return: recovered true needs nothing, false and a gap need the list, which tells who moved", () => {
    const roll = known();
    for (const [answer, next] of [[{ recovered: true }, undefined], [{ recovered: false }, "load"]]) {
      roll.see("subscribing", undefined);
      assert.deepEqual([roll.next(), roll.isKnown, usersOf(roll.snapshot)], [undefined, true, ["ann", "bob"]]);
      roll.answered(answer);
      roll.see("subscribed", undefined);
      assert.equal(roll.next(), next);
    }
    assert.deepEqual(roll.loaded({ cursor: "f.1", count: 2, members: [BOB, EVE] }), { joined: [EVE], left: [ANN] });
    roll.answered({ recovered: false });
    assert.equal(roll.next(), "load");
  });

  test("a list that was asked for when the connection was lost is asked for again, whatever recovered says", () => {
    const roll = known();
    roll.answered({ recovered: false });
    roll.next();
    const { turn } = roll;
    roll.see("subscribing", undefined);
    assert.notEqual(roll.turn, turn);
    roll.answered({ recovered: true });
    assert.equal(roll.next(), "load");
  });

  test("a gap while the list is asked for: the answer that is on its way is of no use", () => {
    const roll = known();
    roll.answered({ recovered: false });
    assert.equal(roll.next(), "load");
    const { turn } = roll;
    roll.answered({ recovered: false });
    assert.notEqual(roll.turn, turn);
    assert.equal(roll.next(), "load");
  });

  test("too many to be listed, and listed again", () => {
    const roll = known();
    assert.deepEqual(roll.hear("tidings:stats", { count: 900, listed: false }, "e.11"), { joined: [], left: [] });
    assert.deepEqual(roll.snapshot, { members: null, count: 900, state: "ready", error: undefined });
    assert.equal(roll.next(), undefined);
    roll.hear("tidings:stats", { count: 2, listed: true }, "e.12");
    assert.equal(roll.hear("tidings:join", { members: [EVE], count: 3 }, "e.13"), undefined);
    assert.equal(roll.next(), "load");
    assert.deepEqual(roll.loaded({ cursor: "e.13", count: 3, members: [ANN, BOB, EVE] }), { joined: [], left: [] });
    assert.deepEqual(usersOf(roll.snapshot), ["ann", "bob", "eve"]);
    roll.answered({ recovered: false });
    roll.loaded({ cursor: "e.20", count: 901, members: null });
    assert.deepEqual([roll.snapshot.members, roll.snapshot.count, roll.isKnown], [null, 901, true]);
  });

  test("refused: said, forgotten, and not asked again on this connection", () => {
    const roll = known();
    roll.answered({ error: { code: "forbidden", message: "no" } });
    const { members, count, state, error } = roll.snapshot;
    assert.deepEqual([members, count, state, error?.code], [[], 0, "failed", "forbidden"]);
    assert.deepEqual([roll.next(), roll.isKnown], [undefined, false]);
    roll.see("subscribing", undefined);
    roll.see("subscribed", undefined);
    assert.equal(roll.next(), "watch");
  });

  test("garbage is survived, and a snapshot never changes", () => {
    const roll = known();
    const before = roll.snapshot;
    for (const said of [{}, { members: 7, count: "x" }, { users: [null, {}] }, { members: [null, 3, { info: 2 }] }]) {
      roll.hear("tidings:join", said, undefined);
      roll.hear("tidings:leave", said, {});
    }
    roll.loaded({});
    assert.deepEqual(before.members, [ANN, BOB]);
    assert.ok(Object.isFrozen(before) && Object.isFrozen(before.members) && Object.isFrozen(before.members?.[0]));
  });
});

/** A pair whose room is watched by `told`, up to its list of `members` as of `e.10`. */
async function watched(members = [ANN, BOB]) {
  const pair = new TestPair();
  const channel = pair.hub.channel(ROOM);
  const presence = channel.presence();
  /** @type {any[]} */
  const told = [];
  const offs = [
    presence.subscribe((snapshot) => told.push([snapshot.state, usersOf(snapshot)])),
    presence.on("join", ({ user }) => told.push(["join", user])),
    presence.on("leave", ({ user }) => told.push(["leave", user])),
  ];
  await settle();
  await pair.link.accept();
  await pair.clock.pass(0);
  const asked = pair.link.next("tidings:subscribe");
  assert.deepEqual(asked.body, { presence: [ROOM] });
  asked.answer({ cursor: "e.9", channels: {}, presence: { [ROOM]: { recovered: false } } });
  await pair.clock.pass(0);
  await listed(pair, members);
  return { pair, channel, presence, told, offs };
}

/** Answers the question for the list. */
async function listed(pair, members, cursor = "e.10") {
  const { body, answer } = pair.link.next("tidings:presence");
  assert.deepEqual(body, { channel: ROOM });
  answer({ cursor, count: members?.length ?? 1000, members });
  await pair.clock.pass(0);
}

describe("presence", () => {
  test("is asked for while somebody listens, and for nobody else", async () => {
    const { pair, presence, told, offs } = await watched();
    assert.deepEqual(told, [["loading", []], ["ready", ["ann", "bob"]]]);
    assert.deepEqual(pair.link.asked, []);
    pair.link.say("tidings:join", { members: [EVE], count: 3 }, ROOM, "e.11");
    pair.link.say("tidings:leave", { users: ["ann"], count: 2 }, ROOM, "e.12");
    assert.deepEqual(told.slice(2), [
      ["ready", ["ann", "bob", "eve"]],
      ["join", "eve"],
      ["ready", ["bob", "eve"]],
      ["leave", "ann"],
    ]);
    offs.forEach((off) => off());
    await pair.clock.pass(0);
    assert.deepEqual(pair.link.next("tidings:unsubscribe").body, { presence: [ROOM] });
    assert.deepEqual(pair.link.next("tidings:unsubscribe").body, { channels: [ROOM] });
    assert.equal(presence.getSnapshot(), UNKNOWN);
  });

  test("a presence that nobody listens to asks nothing", async () => {
    const pair = new TestPair();
    const presence = pair.hub.channel(ROOM).presence();
    await settle();
    const auth = await pair.link.accept();
    await pair.clock.pass(0);
    assert.deepEqual([auth, pair.link.asked, presence.getSnapshot()], [{ channels: [] }, [], UNKNOWN]);
  });

  test("joins and leaves never reach an application's handlers, and move the cursor", async () => {
    const { pair, channel } = await watched();
    const got = [];
    channel.on("*", (data, { event }) => got.push(event));
    pair.link.say("tidings:join", { members: [EVE], count: 3 }, ROOM, "e.11");
    pair.link.say("tidings:stats", { count: 1000, listed: false }, ROOM, "e.12");
    pair.link.say("said", 1, ROOM, "e.13");
    pair.link.say("tidings:leave", { users: ["eve"], count: 2 }, ROOM, "e.14");
    assert.deepEqual(got, ["said"]);
    await pair.link.lose({});
    await pair.clock.pass(20_000);
    assert.equal(pair.link.connect().since, "e.14");
  });

  test("the channel alone goes on when nobody wants to know any more, and tells nothing of it", async () => {
    const { pair, channel, told, offs } = await watched();
    const got = [];
    channel.on("said", (data) => got.push(data));
    offs.forEach((off) => off());
    await pair.clock.pass(0);
    assert.deepEqual(pair.link.next("tidings:unsubscribe").body, { presence: [ROOM] });
    told.length = 0;
    pair.link.say("tidings:join", { members: [EVE], count: 3 }, ROOM, "e.11");
    pair.link.say("said", 1, ROOM, "e.12");
    await pair.clock.pass(0);
    assert.deepEqual([got, told, pair.link.asked, channel.state], [[1], [], [], "subscribed"]);
    await pair.link.lose({});
    await pair.clock.pass(20_000);
    assert.deepEqual(pair.link.connect().presence, []);
  });

  test("who leaves and returns at once asks nothing, and one list serves all", async () => {
    const { pair, offs } = await watched();
    const other = pair.hub.channel(ROOM).presence();
    offs.forEach((off) => off());
    const told = [];
    other.subscribe((snapshot) => told.push(usersOf(snapshot)));
    await pair.clock.pass(0);
    assert.deepEqual([pair.link.asked, told], [[], [["ann", "bob"]]]);
    assert.equal(other.getSnapshot(), pair.hub.channel(ROOM).presence().getSnapshot());
  });

  test("a return to a list that is right asks nothing", async () => {
    const { pair, presence, told } = await watched();
    const before = presence.getSnapshot();
    await pair.link.lose({});
    assert.equal(presence.getSnapshot(), before);
    await pair.clock.pass(20_000);
    const auth = await pair.link.accept({ presence: { [ROOM]: { recovered: true } } });
    assert.deepEqual(auth, { channels: [ROOM], presence: [ROOM], since: "e.0" });
    await pair.clock.pass(0);
    assert.deepEqual([pair.link.asked, presence.getSnapshot()], [[], before]);
    pair.link.say("tidings:leave", { users: ["bob"], count: 1 }, ROOM, "e.20");
    assert.deepEqual(told.at(-1), ["leave", "bob"]);
  });

  test("a return to one that is not: asked again, and who moved meanwhile is told", async () => {
    const { pair, told } = await watched();
    await pair.link.lose({});
    await pair.clock.pass(20_000);
    await pair.link.accept({ presence: { [ROOM]: { recovered: false } } });
    told.length = 0;
    await listed(pair, [BOB, EVE], "e.30");
    assert.deepEqual(told, [["ready", ["bob", "eve"]], ["join", "eve"], ["leave", "ann"]]);
  });

  test("cut off before the list came: joins and leaves, and then the list, on the next connection", async () => {
    const pair = new TestPair();
    const presence = pair.hub.channel(ROOM).presence();
    presence.on("join", () => {});
    await settle();
    await pair.link.accept();
    await pair.clock.pass(0);
    pair.link.next("tidings:subscribe").answer({ presence: { [ROOM]: { recovered: false } } });
    await pair.clock.pass(0);
    const late = pair.link.next("tidings:presence");
    await pair.link.lose({});
    await pair.clock.pass(20_000);
    assert.deepEqual((await pair.link.accept()).presence, []);
    await pair.clock.pass(0);
    late.answer({ cursor: "e.3", count: 1, members: [EVE] });
    await pair.clock.pass(0);
    assert.equal(presence.getSnapshot(), UNKNOWN);
    // The first question, whose answer was lost, goes out once more; what it brings is older than joins and leaves.
    pair.link.next("tidings:presence").answer({ cursor: "e.4", count: 1, members: [EVE] });
    await pair.clock.pass(0);
    assert.equal(presence.getSnapshot(), UNKNOWN);
    pair.link.next("tidings:subscribe").answer({ presence: { [ROOM]: { recovered: false } } });
    await pair.clock.pass(0);
    await listed(pair, [ANN]);
    assert.deepEqual(usersOf(presence.getSnapshot()), ["ann"]);
  });

  test("a gap: the list is asked for again", async () => {
    const { pair, told } = await watched();
    const gap = { cursor: "f.1", channels: {}, presence: { [ROOM]: { recovered: false }, "room:9": {} } };
    pair.link.say("tidings:gap", gap);
    await pair.clock.pass(0);
    await listed(pair, [ANN], "f.1");
    assert.deepEqual(told.slice(-2), [["ready", ["ann"]], ["leave", "bob"]]);
  });

  test("a large channel is a number, until it is small again", async () => {
    const { pair, presence } = await watched();
    pair.link.say("tidings:stats", { count: 1001, listed: false }, ROOM, "e.11");
    assert.deepEqual([presence.getSnapshot().members, presence.getSnapshot().count], [null, 1001]);
    await pair.clock.pass(0);
    assert.deepEqual(pair.link.asked, []);
    pair.link.say("tidings:stats", { count: 3, listed: true }, ROOM, "e.12");
    await pair.clock.pass(0);
    await listed(pair, [ANN, BOB, EVE], "e.12");
    assert.deepEqual(usersOf(presence.getSnapshot()), ["ann", "bob", "eve"]);
  });

  test("a namespace without presence says so, and the channel goes on", async () => {
    const pair = new TestPair();
    const channel = pair.hub.channel(ROOM);
    channel.presence().subscribe(() => {});
    await settle();
    await pair.link.accept();
    await pair.clock.pass(0);
    const refusal = { error: { code: "forbidden", message: "no presence" } };
    pair.link.next("tidings:subscribe").answer({ cursor: "e.0", channels: {}, presence: { [ROOM]: refusal } });
    await pair.clock.pass(0);
    const { members, state, error } = channel.presence().getSnapshot();
    assert.deepEqual([members, state, error?.code, error?.message], [[], "failed", "forbidden", "no presence"]);
    assert.deepEqual([channel.state, pair.link.asked], ["subscribed", []]);
    await pair.clock.pass(60_000);
    assert.deepEqual(pair.link.asked, []);
  });

  test("a channel that is denied has no presence either; a token that brings it back brings both", async () => {
    const { pair, channel, presence, told } = await watched();
    pair.session.subscriptions.deny([ROOM], /** @type {any} */ ({ code: "forbidden" }));
    pair.session.changed();
    await pair.clock.pass(0);
    assert.deepEqual([channel.state, presence.getSnapshot().state], ["denied", "failed"]);
    assert.deepEqual(told.slice(2), [["failed", []]]);
    pair.session.changed();
    await pair.clock.pass(0);
    assert.equal(told.length, 3);
    pair.session.subscriptions.hope();
    pair.session.changed();
    await pair.clock.pass(0);
    await pair.link.grant("e.20");
    await pair.clock.pass(0);
    pair.link.next("tidings:subscribe").answer({ presence: { [ROOM]: { recovered: false } } });
    await pair.clock.pass(0);
    await listed(pair, [ANN], "e.21");
    assert.deepEqual(usersOf(presence.getSnapshot()), ["ann"]);
  });

  test("no answer for now: what is known stays, and it is asked again", async () => {
    const { pair, presence } = await watched();
    pair.link.say("tidings:gap", { presence: { [ROOM]: { recovered: false } } });
    await pair.clock.pass(0);
    pair.link.next("tidings:presence");
    await pair.clock.pass(30_000);
    const { members, state, error } = presence.getSnapshot();
    assert.deepEqual([members?.length, state, error?.code], [2, "failed", "timeout"]);
    await pair.clock.pass(5000);
    await listed(pair, [ANN], "e.20");
    assert.deepEqual([presence.getSnapshot().state, presence.getSnapshot().error], ["ready", undefined]);
  });

  test("garbage is survived", async () => {
    const { pair, presence } = await watched();
    const evil = { toString: 1, constructor: 2, __proto__: null };
    for (const event of ["tidings:join", "tidings:leave", "tidings:stats", "tidings:gap", "tidings:ready"]) {
      for (const values of [[], [null], [evil, ROOM], [evil, ROOM, evil], [{ presence: evil }], [{ presence: 7 }]]) {
        pair.link.say(event, ...values);
      }
    }
    pair.link.say("tidings:join", { members: [EVE], count: 3 }, "room:2", "e.11");
    assert.ok(Array.isArray(presence.getSnapshot().members) || presence.getSnapshot().members === null);
    assert.ok(pair.session.attendance instanceof Attendance);
  });
});
