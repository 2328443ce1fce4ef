import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { MemberList } from "../src/core/members.js";
import { NOT_LOADED } from "../src/core/presence_snapshot.js";
import { PresenceClient } from "../src/presence_client.js";
import { SessionHarness, settle } from "./session_harness.js";

const ROOM = "room:1";
const ANN = { user: "ann", info: { name: "Ann" } };
const BOB = { user: "bob", info: null };
const EVE = { user: "eve", info: null };

const usersOf = (snapshot) => snapshot.members?.map(({ user }) => user) ?? null;

describe("member list", () => {
  /** A list with Ann and Bob at the cursor `e.10`. */
  function loadedList() {
    const list = new MemberList();
    list.onChannelState("subscribed", undefined);
    assert.equal(list.takeRequest(), "subscribe");
    list.onSubscribeResult({ recovered: false });
    assert.equal(list.takeRequest(), "load");
    list.onLoaded({ cursor: "e.10", count: 2, members: [ANN, BOB] });
    return list;
  }

  test("requests join and leave events first, then the list, each once", () => {
    const list = new MemberList();
    assert.equal(list.takeRequest(), undefined);
    list.onChannelState("subscribed", undefined);
    assert.deepEqual([list.takeRequest(), list.takeRequest()], ["subscribe", undefined]);
    list.onSubscribeResult({ recovered: false });
    assert.deepEqual([list.takeRequest(), list.takeRequest()], ["load", undefined]);
    assert.deepEqual(list.onLoaded({ cursor: "e.1", count: 1, members: [ANN] }), { joined: [], left: [] });
    assert.equal(list.takeRequest(), undefined);
    assert.deepEqual(list.snapshot, { members: [ANN], count: 1, state: "ready", error: undefined });
  });

  test("an event is applied only if it is newer than the list", () => {
    const list = loadedList();
    assert.equal(list.onEvent("tidings:leave", { users: ["ann"], count: 1 }, "e.9"), undefined);
    assert.equal(list.onEvent("tidings:leave", { users: ["ann"], count: 1 }, "e.10"), undefined);
    const leave = { users: ["ann", "who"], count: 1 };
    assert.deepEqual(list.onEvent("tidings:leave", leave, "e.11"), { joined: [], left: [ANN] });
    assert.deepEqual(list.onEvent("tidings:join", { members: [EVE], count: 2 }, "e.12"), { joined: [EVE], left: [] });
    assert.equal(list.onEvent("tidings:join", { members: [ANN], count: 3 }, "e.12"), undefined);
    assert.deepEqual([usersOf(list.snapshot), list.snapshot.count], [["bob", "eve"], 2]);
  });

  test("an event before the first list is ignored, because the list includes it", () => {
    const list = new MemberList();
    list.onChannelState("subscribed", undefined);
    list.takeRequest();
    list.onSubscribeResult({ recovered: false });
    list.takeRequest();
    assert.equal(list.onEvent("tidings:join", { members: [BOB], count: 2 }, "e.5"), undefined);
    assert.equal(list.snapshot, NOT_LOADED);
    list.onLoaded({ cursor: "e.5", count: 2, members: [ANN, BOB] });
    assert.equal(list.onEvent("tidings:join", { members: [BOB], count: 2 }, "e.5"), undefined);
    assert.deepEqual(usersOf(list.snapshot), ["ann", "bob"]);
  });

  test("a join of a present member updates the info without a join event", () => {
    const list = loadedList();
    const changed = { user: "bob", info: { name: "Bob" } };
    assert.deepEqual(list.onEvent("tidings:join", { members: [changed], count: 2 }, "e.11"), { joined: [], left: [] });
    assert.deepEqual(list.snapshot.members, [ANN, changed]);
  });

  test("after a reconnect the list is loaded unless it was recovered, and yields the changes", () => {
    const list = loadedList();
    for (const [respond, next] of [[{ recovered: true }, undefined], [{ recovered: false }, "load"]]) {
      list.onChannelState("subscribing", undefined);
      assert.deepEqual([list.takeRequest(), list.hasList, usersOf(list.snapshot)], [undefined, true, ["ann", "bob"]]);
      list.onSubscribeResult(respond);
      list.onChannelState("subscribed", undefined);
      assert.equal(list.takeRequest(), next);
    }
    assert.deepEqual(list.onLoaded({ cursor: "f.1", count: 2, members: [BOB, EVE] }), { joined: [EVE], left: [ANN] });
    list.onSubscribeResult({ recovered: false });
    assert.equal(list.takeRequest(), "load");
  });

  test("a list request that was lost with the connection is repeated, even after a recovery", () => {
    const list = loadedList();
    list.onSubscribeResult({ recovered: false });
    list.takeRequest();
    const { attempt } = list;
    list.onChannelState("subscribing", undefined);
    assert.notEqual(list.attempt, attempt);
    list.onSubscribeResult({ recovered: true });
    assert.equal(list.takeRequest(), "load");
  });

  test("a gap during a list request makes the response outdated", () => {
    const list = loadedList();
    list.onSubscribeResult({ recovered: false });
    assert.equal(list.takeRequest(), "load");
    const { attempt } = list;
    list.onSubscribeResult({ recovered: false });
    assert.notEqual(list.attempt, attempt);
    assert.equal(list.takeRequest(), "load");
  });

  test("a channel becomes too large to list, and is listed again later", () => {
    const list = loadedList();
    assert.deepEqual(list.onEvent("tidings:stats", { count: 900, listed: false }, "e.11"), { joined: [], left: [] });
    assert.deepEqual(list.snapshot, { members: null, count: 900, state: "ready", error: undefined });
    assert.equal(list.takeRequest(), undefined);
    list.onEvent("tidings:stats", { count: 2, listed: true }, "e.12");
    assert.equal(list.onEvent("tidings:join", { members: [EVE], count: 3 }, "e.13"), undefined);
    assert.equal(list.takeRequest(), "load");
    assert.deepEqual(list.onLoaded({ cursor: "e.13", count: 3, members: [ANN, BOB, EVE] }), { joined: [], left: [] });
    assert.deepEqual(usersOf(list.snapshot), ["ann", "bob", "eve"]);
    list.onSubscribeResult({ recovered: false });
    list.onLoaded({ cursor: "e.20", count: 901, members: null });
    assert.deepEqual([list.snapshot.members, list.snapshot.count, list.hasList], [null, 901, true]);
  });

  test("a refusal clears the list and is not retried on this connection", () => {
    const list = loadedList();
    list.onSubscribeResult({ error: { code: "forbidden", message: "no" } });
    const { members, count, state, error } = list.snapshot;
    assert.deepEqual([members, count, state, error?.code], [[], 0, "failed", "forbidden"]);
    assert.deepEqual([list.takeRequest(), list.hasList], [undefined, false]);
    list.onChannelState("subscribing", undefined);
    list.onChannelState("subscribed", undefined);
    assert.equal(list.takeRequest(), "subscribe");
  });

  test("malformed events are ignored, and a snapshot is immutable", () => {
    const list = loadedList();
    const before = list.snapshot;
    for (const data of [{}, { members: 7, count: "x" }, { users: [null, {}] }, { members: [null, 3, { info: 2 }] }]) {
      list.onEvent("tidings:join", data, undefined);
      list.onEvent("tidings:leave", data, {});
    }
    list.onLoaded({});
    assert.deepEqual(before.members, [ANN, BOB]);
    assert.ok(Object.isFrozen(before) && Object.isFrozen(before.members) && Object.isFrozen(before.members?.[0]));
  });
});

/** A harness with a presence listener for `ROOM`, after the list of `members` arrived with the cursor `e.10`. */
async function watchedRoom(members = [ANN, BOB]) {
  const harness = new SessionHarness();
  const channel = harness.hub.channel(ROOM);
  const presence = channel.presence();
  /** @type {any[]} */
  const events = [];
  const removers = [
    presence.subscribe((snapshot) => events.push([snapshot.state, usersOf(snapshot)])),
    presence.on("join", ({ user }) => events.push(["join", user])),
    presence.on("leave", ({ user }) => events.push(["leave", user])),
  ];
  await settle();
  await harness.link.accept();
  await harness.clock.pass(0);
  const request = harness.link.nextRequest("tidings:subscribe");
  assert.deepEqual(request.body, { presence: [ROOM] });
  request.respond({ cursor: "e.9", channels: {}, presence: { [ROOM]: { recovered: false } } });
  await harness.clock.pass(0);
  await sendMembers(harness, members);
  return { harness, channel, presence, events, removers };
}

/** Responds to the next request for the list. */
async function sendMembers(harness, members, cursor = "e.10") {
  const { body, respond } = harness.link.nextRequest("tidings:presence");
  assert.deepEqual(body, { channel: ROOM });
  respond({ cursor, count: members?.length ?? 1000, members });
  await harness.clock.pass(0);
}

describe("presence", () => {
  test("is requested while it has listeners", async () => {
    const { harness, presence, events, removers } = await watchedRoom();
    assert.deepEqual(events, [["loading", []], ["ready", ["ann", "bob"]]]);
    assert.deepEqual(harness.link.requests, []);
    harness.link.emit("tidings:join", { members: [EVE], count: 3 }, ROOM, "e.11");
    harness.link.emit("tidings:leave", { users: ["ann"], count: 2 }, ROOM, "e.12");
    assert.deepEqual(events.slice(2), [
      ["ready", ["ann", "bob", "eve"]],
      ["join", "eve"],
      ["ready", ["bob", "eve"]],
      ["leave", "ann"],
    ]);
    removers.forEach((off) => off());
    await harness.clock.pass(0);
    assert.deepEqual(harness.link.nextRequest("tidings:unsubscribe").body, { presence: [ROOM] });
    assert.deepEqual(harness.link.nextRequest("tidings:unsubscribe").body, { channels: [ROOM] });
    assert.equal(presence.getSnapshot(), NOT_LOADED);
  });

  test("without listeners nothing is requested", async () => {
    const harness = new SessionHarness();
    const presence = harness.hub.channel(ROOM).presence();
    await settle();
    const auth = await harness.link.accept();
    await harness.clock.pass(0);
    assert.deepEqual(auth, { channels: [], pid: null });
    assert.deepEqual([harness.link.requests, presence.getSnapshot()], [[], NOT_LOADED]);
  });

  test("join and leave events do not reach `*` handlers, and move the cursor", async () => {
    const { harness, channel } = await watchedRoom();
    const received = [];
    channel.on("*", (data, { event }) => received.push(event));
    harness.link.emit("tidings:join", { members: [EVE], count: 3 }, ROOM, "e.11");
    harness.link.emit("tidings:stats", { count: 1000, listed: false }, ROOM, "e.12");
    harness.link.emit("said", 1, ROOM, "e.13");
    harness.link.emit("tidings:leave", { users: ["eve"], count: 2 }, ROOM, "e.14");
    assert.deepEqual(received, ["said"]);
    await harness.link.disconnect({});
    await harness.clock.pass(20_000);
    assert.equal(harness.link.connect().since, "e.14");
  });

  test("without presence listeners the channel stays subscribed, without presence events", async () => {
    const { harness, channel, events, removers } = await watchedRoom();
    const received = [];
    channel.on("said", (data) => received.push(data));
    removers.forEach((off) => off());
    await harness.clock.pass(0);
    assert.deepEqual(harness.link.nextRequest("tidings:unsubscribe").body, { presence: [ROOM] });
    events.length = 0;
    harness.link.emit("tidings:join", { members: [EVE], count: 3 }, ROOM, "e.11");
    harness.link.emit("said", 1, ROOM, "e.12");
    await harness.clock.pass(0);
    assert.deepEqual([received, events, harness.link.requests, channel.state], [[1], [], [], "subscribed"]);
    await harness.link.disconnect({});
    await harness.clock.pass(20_000);
    assert.deepEqual(harness.link.connect().presence, []);
  });

  test("removing and adding listeners at once needs no request, and the list is shared", async () => {
    const { harness, removers } = await watchedRoom();
    const other = harness.hub.channel(ROOM).presence();
    removers.forEach((off) => off());
    const events = [];
    other.subscribe((snapshot) => events.push(usersOf(snapshot)));
    await harness.clock.pass(0);
    assert.deepEqual([harness.link.requests, events], [[], [["ann", "bob"]]]);
    assert.equal(other.getSnapshot(), harness.hub.channel(ROOM).presence().getSnapshot());
  });

  test("a recovered list needs no request", async () => {
    const { harness, presence, events } = await watchedRoom();
    const before = presence.getSnapshot();
    await harness.link.disconnect({});
    assert.equal(presence.getSnapshot(), before);
    await harness.clock.pass(20_000);
    const auth = await harness.link.accept({ presence: { [ROOM]: { recovered: true } } });
    assert.deepEqual(auth, { channels: [ROOM], pid: null, presence: [ROOM], since: "e.0" });
    await harness.clock.pass(0);
    assert.deepEqual([harness.link.requests, presence.getSnapshot()], [[], before]);
    harness.link.emit("tidings:leave", { users: ["bob"], count: 1 }, ROOM, "e.20");
    assert.deepEqual(events.at(-1), ["leave", "bob"]);
  });

  test("a list that was not recovered is requested again, and the changes are emitted", async () => {
    const { harness, events } = await watchedRoom();
    await harness.link.disconnect({});
    await harness.clock.pass(20_000);
    await harness.link.accept({ presence: { [ROOM]: { recovered: false } } });
    events.length = 0;
    await sendMembers(harness, [BOB, EVE], "e.30");
    assert.deepEqual(events, [["ready", ["bob", "eve"]], ["join", "eve"], ["leave", "ann"]]);
  });

  test("a connection lost before the list arrives: the next one requests events, then the list", async () => {
    const harness = new SessionHarness();
    const presence = harness.hub.channel(ROOM).presence();
    presence.on("join", () => {});
    await settle();
    await harness.link.accept();
    await harness.clock.pass(0);
    harness.link.nextRequest("tidings:subscribe").respond({ presence: { [ROOM]: { recovered: false } } });
    await harness.clock.pass(0);
    const lateRequest = harness.link.nextRequest("tidings:presence");
    await harness.link.disconnect({});
    await harness.clock.pass(20_000);
    assert.deepEqual((await harness.link.accept()).presence, []);
    await harness.clock.pass(0);
    lateRequest.respond({ cursor: "e.3", count: 1, members: [EVE] });
    await harness.clock.pass(0);
    assert.equal(presence.getSnapshot(), NOT_LOADED);
    // The first request is repeated, because its response was lost. It is older than the join and leave events.
    harness.link.nextRequest("tidings:presence").respond({ cursor: "e.4", count: 1, members: [EVE] });
    await harness.clock.pass(0);
    assert.equal(presence.getSnapshot(), NOT_LOADED);
    harness.link.nextRequest("tidings:subscribe").respond({ presence: { [ROOM]: { recovered: false } } });
    await harness.clock.pass(0);
    await sendMembers(harness, [ANN]);
    assert.deepEqual(usersOf(presence.getSnapshot()), ["ann"]);
  });

  test("a gap makes the list be requested again", async () => {
    const { harness, events } = await watchedRoom();
    const gap = { cursor: "f.1", channels: {}, presence: { [ROOM]: { recovered: false }, "room:9": {} } };
    harness.link.emit("tidings:gap", gap);
    await harness.clock.pass(0);
    await sendMembers(harness, [ANN], "f.1");
    assert.deepEqual(events.slice(-2), [["ready", ["ann"]], ["leave", "bob"]]);
  });

  test("a large channel has only a count until it is small again", async () => {
    const { harness, presence } = await watchedRoom();
    harness.link.emit("tidings:stats", { count: 1001, listed: false }, ROOM, "e.11");
    assert.deepEqual([presence.getSnapshot().members, presence.getSnapshot().count], [null, 1001]);
    await harness.clock.pass(0);
    assert.deepEqual(harness.link.requests, []);
    harness.link.emit("tidings:stats", { count: 3, listed: true }, ROOM, "e.12");
    await harness.clock.pass(0);
    await sendMembers(harness, [ANN, BOB, EVE], "e.12");
    assert.deepEqual(usersOf(presence.getSnapshot()), ["ann", "bob", "eve"]);
  });

  test("in a namespace without presence it fails, and the channel stays subscribed", async () => {
    const harness = new SessionHarness();
    const channel = harness.hub.channel(ROOM);
    channel.presence().subscribe(() => {});
    await settle();
    await harness.link.accept();
    await harness.clock.pass(0);
    const refusal = { error: { code: "forbidden", message: "no presence" } };
    const response = { cursor: "e.0", channels: {}, presence: { [ROOM]: refusal } };
    harness.link.nextRequest("tidings:subscribe").respond(response);
    await harness.clock.pass(0);
    const { members, state, error } = channel.presence().getSnapshot();
    assert.deepEqual([members, state, error?.code, error?.message], [[], "failed", "forbidden", "no presence"]);
    assert.deepEqual([channel.state, harness.link.requests], ["subscribed", []]);
    await harness.clock.pass(60_000);
    assert.deepEqual(harness.link.requests, []);
  });

  test("a denied channel has no presence; a new token restores both", async () => {
    const { harness, channel, presence, events } = await watchedRoom();
    harness.session.channels.deny([ROOM], /** @type {any} */ ({ code: "forbidden" }));
    harness.session.subscribeSoon();
    await harness.clock.pass(0);
    assert.deepEqual([channel.state, presence.getSnapshot().state], ["denied", "failed"]);
    assert.deepEqual(events.slice(2), [["failed", []]]);
    harness.session.subscribeSoon();
    await harness.clock.pass(0);
    assert.equal(events.length, 3);
    harness.session.channels.retryDenied();
    harness.session.subscribeSoon();
    await harness.clock.pass(0);
    await harness.link.acceptSubscribe("e.20");
    await harness.clock.pass(0);
    harness.link.nextRequest("tidings:subscribe").respond({ presence: { [ROOM]: { recovered: false } } });
    await harness.clock.pass(0);
    await sendMembers(harness, [ANN], "e.21");
    assert.deepEqual(usersOf(presence.getSnapshot()), ["ann"]);
  });

  test("a channel that a backend grants after a refusal has presence", async () => {
    const { harness, channel, presence } = await watchedRoom();
    harness.link.emit("tidings:unsubscribed", { channels: [ROOM] });
    harness.session.subscribeSoon();
    await harness.clock.pass(0);
    assert.deepEqual([channel.state, presence.getSnapshot().state], ["denied", "failed"]);
    harness.link.emit("tidings:subscribed", { cursor: "e.20", channels: { [ROOM]: { recovered: false } } });
    await harness.clock.pass(0);
    harness.link.nextRequest("tidings:subscribe").respond({ presence: { [ROOM]: { recovered: false } } });
    await harness.clock.pass(0);
    await sendMembers(harness, [EVE], "e.21");
    assert.deepEqual([channel.state, presence.getSnapshot().state], ["subscribed", "ready"]);
    assert.deepEqual(usersOf(presence.getSnapshot()), ["eve"]);
  });

  test("without a response the members stay, and the request is repeated", async () => {
    const { harness, presence } = await watchedRoom();
    harness.link.emit("tidings:gap", { presence: { [ROOM]: { recovered: false } } });
    await harness.clock.pass(0);
    harness.link.nextRequest("tidings:presence");
    await harness.clock.pass(30_000);
    const { members, state, error } = presence.getSnapshot();
    assert.deepEqual([members?.length, state, error?.code], [2, "failed", "timeout"]);
    await harness.clock.pass(5000);
    await sendMembers(harness, [ANN], "e.20");
    assert.deepEqual([presence.getSnapshot().state, presence.getSnapshot().error], ["ready", undefined]);
  });

  test("malformed presence events are ignored", async () => {
    const { harness, presence } = await watchedRoom();
    const evil = { toString: 1, constructor: 2, __proto__: null };
    for (const event of ["tidings:join", "tidings:leave", "tidings:stats", "tidings:gap", "tidings:ready"]) {
      for (const values of [[], [null], [evil, ROOM], [evil, ROOM, evil], [{ presence: evil }], [{ presence: 7 }]]) {
        harness.link.emit(event, ...values);
      }
    }
    harness.link.emit("tidings:join", { members: [EVE], count: 3 }, "room:2", "e.11");
    assert.ok(Array.isArray(presence.getSnapshot().members) || presence.getSnapshot().members === null);
    assert.ok(harness.session.presenceClient instanceof PresenceClient);
  });
});
