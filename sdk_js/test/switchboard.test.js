import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Switchboard } from "../src/tabs/switchboard.js";
import { settle, TestLink } from "./pair.js";

/**
 * A switchboard whose own tab has `a:1`, and what its links were told since it was ready.
 *
 * @param {Record<string, import("../src/tabs/join.js").Wanted>} [others] links that were there from the beginning
 */
async function switchboard(others = {}) {
  const told = [];
  /** @type {TestLink | undefined} */
  let link;
  const open = (listener) => (link = new TestLink(["websocket"], listener));
  const board = new Switchboard("own", () => ({ token: "t", channels: ["a:1"] }), open, (ids, what) => {
    for (const said of ids.length === 0 ? [] : "events" in what ? what.events : [what]) {
      told.push(ids.toSorted().concat("event" in said ? [said.event, said.values[0]] : [Object.keys(said)[0]]));
    }
  });
  Object.entries(others).forEach(([id, wanted]) => board.connect(id, wanted));
  const hub = /** @type {TestLink} */ (/** @type {unknown} */ (link));
  const watched = Object.values(others).flatMap(({ presence = [] }) => presence);
  const presence = Object.fromEntries(watched.map((name) => [name, { recovered: false }]));
  const auth = await hub.accept({ expires_in_s: 60, presence });
  const first = told.splice(0);
  const ask = (id, event, body) => board.ask(id, event, body, 1000);
  return { board, hub, told, auth, first, ask };
}

/** The answer to the next subscribe. */
async function answer(hub, channels, more = {}) {
  const { body, answer: say } = hub.next("tidings:subscribe");
  say({ cursor: "e.9", channels, ...more });
  await settle();
  return body;
}

describe("letting in", () => {
  test("CONNECT has everything that is wanted by then, and one token", async () => {
    const { auth, first } = await switchboard({ two: { channels: ["a:1", "b:1"], presence: ["b:1"] } });
    assert.deepEqual(auth, { token: "t", channels: ["a:1", "b:1"], presence: ["b:1"] });
    const [two, own] = first.filter(([, event]) => event === "tidings:ready").map(([id, , said]) => ({ id, ...said }));
    assert.deepEqual([own.id, own.expires_in_s, two.id, two.expires_in_s], ["own", 60, "two", undefined]);
    assert.deepEqual(own.channels, { "a:1": { recovered: false }, "user:7": { recovered: false } });
    assert.deepEqual(two.presence, { "b:1": { recovered: false } });
  });

  test("where somebody was before, what recovers goes first and the rest is asked for afterwards", async () => {
    const { auth, hub, first } = await switchboard({
      two: { channels: ["a:1"], since: "e.5" },
      three: { channels: ["b:1"], since: "e.3" },
    });
    assert.deepEqual([auth.channels, auth.since], [["a:1", "b:1"], "e.3"]);
    // The own tab's channel is there: nothing is left to ask for.
    assert.deepEqual(hub.asked, []);
    const ready = first.filter(([, event]) => event === "tidings:ready");
    const answers = ready.map(([id, , said]) => [id, said.channels["a:1"]]);
    assert.deepEqual(answers, [["two", { recovered: true }], ["three", undefined], ["own", { recovered: false }]]);
  });

  test("what is there costs no request; a cursor does, and begins anew where all can go on", async () => {
    const { board, hub, told } = await switchboard();
    hub.say("x", 1, "a:1", "e.4");
    board.connect("two", { channels: ["a:1"] });
    await settle();
    assert.deepEqual(hub.asked, []);
    assert.deepEqual(told.at(-1)[2].cursor, "e.4");
    board.connect("three", { channels: ["a:1"], since: "e.6" });
    await settle();
    told.length = 0;
    hub.say("x", 2, "a:1", "e.5");
    assert.deepEqual(told, []);
    const granted = { recovered: true };
    const body = await answer(hub, { "a:1": granted, "user:7": granted });
    assert.deepEqual(body, { channels: ["a:1", "user:7"], presence: [], since: "e.4" });
    assert.deepEqual(told.map(([id, event]) => [id, event]), [
      ["own", "x"],
      ["two", "x"],
      ["three", "transport"],
      ["three", "tidings:ready"],
      ["three", "x"],
    ]);
  });

  test("a past that the hub does not have any more is a gap for all who have the channel", async () => {
    const { board, hub, told } = await switchboard({ other: { channels: ["b:1"] } });
    board.connect("two", { channels: ["a:1", "b:2"], since: "e.0" });
    await settle();
    hub.say("x", 1, "a:1", "e.8");
    await answer(hub, { "a:1": { recovered: false }, "b:2": { recovered: true }, "user:7": { recovered: true } });
    const lost = { "a:1": { recovered: false } };
    assert.deepEqual(told, [
      ["own", "x", 1],
      ["own", "tidings:gap", { cursor: "e.8", channels: lost, presence: {} }],
      ["two", "transport"],
      ["two", "tidings:ready", { ...told[3][2], cursor: "e.8", channels: { ...told[3][2].channels, ...lost } }],
    ]);
  });

  test("a cursor that is none, or of another epoch, is nobody's trouble", async () => {
    const { board, hub, told } = await switchboard();
    board.connect("two", { channels: ["a:1"], since: "rubbish" });
    board.connect("three", { channels: ["a:1"], since: "d.4" });
    await settle();
    assert.deepEqual(hub.asked, []);
    const ready = told.filter(([, event]) => event === "tidings:ready");
    assert.deepEqual(ready.map(([id, , said]) => [id, said.channels["a:1"]]), [
      ["three", { recovered: false }],
      ["two", { recovered: false }],
    ]);
  });
});

describe("channels and presence of several links", () => {
  test("are left when nobody has them any more", async () => {
    const { board, hub, ask } = await switchboard({ two: { channels: ["a:1", "b:1"], presence: ["b:1"] } });
    assert.deepEqual(await ask("two", "tidings:unsubscribe", { channels: ["a:1"] }), {});
    await settle();
    assert.deepEqual(hub.asked, []);
    await ask("two", "tidings:unsubscribe", { presence: ["b:1"] });
    await settle();
    const left = hub.next("tidings:unsubscribe");
    assert.deepEqual(left.body, { channels: [], presence: ["b:1"] });
    left.answer({});
    board.drop("two");
    await settle();
    assert.deepEqual(hub.next("tidings:unsubscribe").body, { channels: ["b:1"], presence: [] });
  });

  test("joins and leaves go to those who asked for them", async () => {
    const { hub, told, ask } = await switchboard({ two: { channels: ["a:1"], presence: ["a:1"] } });
    hub.say("tidings:join", { members: [] }, "a:1", "e.3");
    hub.say("x", 1, "a:1", "e.4");
    assert.deepEqual(told.map((each) => each.slice(0, -1)), [["two", "tidings:join"], ["own", "two", "x"]]);
    const also = ask("own", "tidings:subscribe", { presence: ["a:1"] });
    await settle();
    assert.deepEqual((await also).presence, { "a:1": { recovered: false } });
    hub.say("tidings:leave", { users: [] }, "a:1", "e.5");
    assert.deepEqual(told.at(-1).slice(0, 3), ["own", "two", "tidings:leave"]);
    // Who subscribes again without them gets none any more.
    await ask("two", "tidings:subscribe", { channels: ["a:1"] });
    hub.say("tidings:leave", { users: [] }, "a:1", "e.6");
    assert.deepEqual(told.at(-1).slice(0, 2), ["own", "tidings:leave"]);
  });

  test("one link's list may be wrong now: so may the others'", async () => {
    const { board, hub, told } = await switchboard({ two: { channels: ["a:1"], presence: ["a:1"] } });
    board.connect("three", { channels: ["a:1"], since: "e.0" });
    await settle();
    const granted = { recovered: true };
    const lost = { "a:1": { recovered: false } };
    const body = await answer(hub, { "a:1": granted, "user:7": granted }, { presence: lost });
    assert.deepEqual(body.presence, ["a:1"]);
    assert.deepEqual(told[0], ["two", "tidings:gap", { cursor: "e.0", channels: {}, presence: lost }]);
  });

  test("the hub's own words go to whom they concern", async () => {
    const { hub, told, ask } = await switchboard({ two: { channels: ["b:1"] } });
    hub.say("tidings:expiring", { expires_in_s: 3 });
    hub.say("tidings:gap", { cursor: "e.5", channels: {} });
    hub.say("tidings:subscribed", { cursor: "e.6", channels: { "c:1": { recovered: false } } });
    hub.say("x", 1, "c:1", "e.7");
    hub.say("tidings:unsubscribed", { channels: ["c:1"] });
    hub.say("x", 2, "c:1", "e.8");
    assert.deepEqual(told.map((each) => each.slice(0, -1)), [
      ["own", "tidings:expiring"],
      ["own", "two", "tidings:gap"],
      ["own", "two", "tidings:subscribed"],
      ["own", "two", "x"],
      ["own", "two", "tidings:unsubscribed"],
    ]);
    // It is not there any more: the hub is asked.
    void ask("two", "tidings:subscribe", { channels: ["c:1"] });
    await settle();
    assert.deepEqual(hub.next("tidings:subscribe").body.channels, ["c:1"]);
  });
});

describe("what goes wrong", () => {
  test("a refusal is its asker's; a new token gives it another chance, and ends what it does not cover", async () => {
    const { hub, told, ask } = await switchboard({ two: { channels: ["b:1"] }, three: { channels: ["c:1"] } });
    const refused = ask("two", "tidings:subscribe", { channels: ["d:1"] });
    await settle();
    hub.next("tidings:subscribe").answer({ error: { code: "forbidden", message: "m" } });
    assert.deepEqual((await refused).channels, { "d:1": { error: { code: "forbidden", message: "m" } } });
    assert.deepEqual(told, []);
    const renewed = ask("own", "tidings:refresh", { token: "u" });
    await settle();
    hub.next("tidings:refresh").answer({ expires_in_s: 60, left: ["c:1"] });
    assert.deepEqual(await renewed, { expires_in_s: 60, left: ["c:1"] });
    assert.deepEqual(told, [["three", "two", "lost"]]);
  });

  for (const [what, act] of /** @type {const} */ ([
    ["no answer", (request) => request.fail()],
    ["an error", (request) => request.answer({ error: { code: "too_large", message: "" } })],
    ["channels that are taken meanwhile", (_, hub) => hub.say("tidings:unsubscribed", { channels: ["a:1"] })],
  ])) {
    test(`${what} to who recovers: nobody knows what is left of it, and all begin anew`, async () => {
      const { board, hub, told } = await switchboard({ two: { channels: ["b:1"] } });
      board.connect("three", { channels: ["a:1"], since: "e.0" });
      await settle();
      act(hub.next("tidings:subscribe"), hub);
      await settle();
      assert.deepEqual(told, [["three", "two", "lost"], ["own", "lost"]].slice(told.length - 2));
      assert.equal(hub.closed, true);
    });
  }

  test("the end of the connection is everybody's; closing it here is not told here", async () => {
    const one = await switchboard({ two: { channels: ["b:1"] } });
    const asked = one.ask("two", "tidings:subscribe", { channels: ["b:2"] });
    await one.hub.lose({ code: "draining" });
    assert.deepEqual(one.told, [["two", "lost"], ["own", "lost"]]);
    void asked;
    const other = await switchboard({ two: { channels: ["b:1"] } });
    other.board.close();
    assert.deepEqual(other.told, [["two", "lost"]]);
    await assert.rejects(other.ask("own", "tidings:refresh", { token: "u" }));
    await assert.rejects(other.ask("stranger", "tidings:publish", {}));
  });
});
