import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { Window } from "happy-dom";
import { settle, TestPair } from "./pair.js";
// Loaded on first use otherwise.
import "../src/attendance.js";
import "../src/core/rows.js";

const window = /** @type {any} */ (new Window());
Object.assign(globalThis, { window, document: window.document, IS_REACT_ACT_ENVIRONMENT: true });
globalThis.navigator ??= window.navigator;
// React looks for the page when it is loaded.
const { act, createElement, StrictMode, useLayoutEffect, useState } = await import("react");
const { createRoot } = await import("react-dom/client");
const { renderToString } = await import("react-dom/server");
const { useChannel, useCollection, usePresence } = await import("../src/react.js");

const ROOM = "room:1";
/** @type {import("react-dom/client").Root[]} */
const roots = [];

afterEach(async () => {
  for (const root of roots.splice(0)) {
    await act(() => root.unmount());
  }
});

/**
 * Shows a component as development builds of applications do, mounting everything twice.
 *
 * @template {object} Props
 * @param {(props: Props) => any} component
 * @param {Props} first
 */
async function shown(component, first) {
  const element = window.document.createElement("div");
  const root = createRoot(element);
  roots.push(root);
  const render = (/** @type {Props} */ props) =>
    act(() => root.render(createElement(StrictMode, null, createElement(component, props))));
  await render(first);
  return { render, unmount: () => act(() => root.unmount()), text: () => element.textContent };
}

/** @param {import("./pair.js").TestPair} pair */
async function accepted(pair) {
  await act(async () => {
    await settle();
    await pair.link.accept();
    await pair.clock.pass(0);
  });
}

/** @param {import("./pair.js").TestPair} pair */
function pass(pair, ms = 0) {
  return act(() => pair.clock.pass(ms));
}

/** Lets the hub say something. */
function say(pair, event, ...values) {
  return act(async () => pair.link.say(event, ...values));
}

test("useChannel: each publication once, and the channel is asked for and left once", async () => {
  const pair = new TestPair();
  await accepted(pair);
  const got = [];
  const page = await shown(() => {
    useChannel(pair.hub.channel(ROOM), "said", (data, { cursor }) => got.push([data, cursor]));
    return null;
  }, {});
  await pass(pair);
  assert.deepEqual(await pair.link.grant(), { channels: [ROOM] });
  await say(pair, "said", "a", ROOM, "e.1");
  await say(pair, "other", "b", ROOM, "e.2");
  await say(pair, "said", "c", ROOM, "e.3");
  assert.deepEqual(got, [["a", "e.1"], ["c", "e.3"]]);
  assert.deepEqual(pair.link.asked, []);
  await page.unmount();
  await pass(pair);
  assert.deepEqual(pair.link.next("tidings:unsubscribe").body, { channels: [ROOM] });
  assert.deepEqual(pair.link.asked, []);
});

test("useChannel: the handler of the last render is called, and nothing is subscribed to anew", async (context) => {
  const pair = new TestPair();
  await accepted(pair);
  const changed = context.mock.method(pair.session, "changed");
  const got = [];
  const page = await shown(({ label }) => {
    const [count, setCount] = useState(0);
    useChannel(pair.hub.channel(ROOM), "said", (data) => {
      got.push(`${label} ${count} ${data}`);
      setCount(count + 1);
    });
    return count;
  }, { label: "a" });
  await pass(pair);
  await pair.link.grant();
  await pass(pair);
  const before = changed.mock.callCount();
  await say(pair, "said", 1, ROOM, "e.1");
  await page.render({ label: "b" });
  await say(pair, "said", 2, ROOM, "e.2");
  await say(pair, "said", 3, ROOM, "e.3");
  assert.deepEqual(got, ["a 0 1", "b 1 2", "b 2 3"]);
  assert.equal(page.text(), "3");
  await pass(pair);
  assert.deepEqual([changed.mock.callCount(), pair.link.asked], [before, []]);
});

test("useChannel: no effect of a render meets the handler of the one before", async () => {
  const pair = new TestPair();
  await accepted(pair);
  const got = [];
  const page = await shown(({ label }) => {
    useLayoutEffect(() => {
      pair.link.say("said", label, ROOM, `e.${label}`);
    }, [label]);
    useChannel(pair.hub.channel(ROOM), "said", (data) => got.push([label, data]));
    return null;
  }, { label: 1 });
  await pass(pair);
  await pair.link.grant();
  await page.render({ label: 2 });
  assert.deepEqual(got, [[2, 2]]);
});

test("useChannel: another channel, another event, another hub", async () => {
  const pairs = [new TestPair(), new TestPair()];
  await accepted(pairs[0]);
  await accepted(pairs[1]);
  const got = [];
  const page = await shown(({ pair, name, event }) => {
    useChannel(pair.hub.channel(name), event, (data) => got.push(data));
    return null;
  }, { pair: pairs[0], name: ROOM, event: "said" });
  await pass(pairs[0]);
  await pairs[0].link.grant();
  await page.render({ pair: pairs[0], name: ROOM, event: "left" });
  await pass(pairs[0]);
  assert.deepEqual(pairs[0].link.asked, []);
  await say(pairs[0], "said", 1, ROOM, "e.1");
  await say(pairs[0], "left", 2, ROOM, "e.2");
  await page.render({ pair: pairs[0], name: "room:2", event: "left" });
  await pass(pairs[0]);
  assert.deepEqual(pairs[0].link.next("tidings:unsubscribe").body, { channels: [ROOM] });
  assert.deepEqual(await pairs[0].link.grant(), { channels: ["room:2"] });
  await page.render({ pair: pairs[1], name: "room:2", event: "left" });
  await pass(pairs[0]);
  await pass(pairs[1]);
  assert.deepEqual(pairs[0].link.next("tidings:unsubscribe").body, { channels: ["room:2"] });
  await pairs[1].link.grant();
  await say(pairs[1], "left", 3, "room:2", "e.1");
  assert.deepEqual(got, [2, 3]);
});

test("useChannel: what the channel tells by itself", async () => {
  const pair = new TestPair();
  await accepted(pair);
  const states = [];
  await shown(() => {
    useChannel(pair.hub.channel(ROOM), "tidings:state", (state) => states.push(state));
    return null;
  }, {});
  await pass(pair);
  await act(() => pair.link.grant());
  assert.deepEqual(states, ["subscribed"]);
});

test("useCollection: loaded once, and shown as it changes", async () => {
  const pair = new TestPair();
  const loads = [];
  const orders = pair.hub.collection("Order", {
    channel: "orders:all",
    load: () => {
      loads.push(1);
      return [{ id: 1, title: "Tea", version: 1 }];
    },
  });
  const page = await shown(() => {
    const { items, state } = useCollection(orders);
    return `${state}: ${items.map(({ title }) => title).join(", ")}`;
  }, {});
  assert.equal(page.text(), "loading: ");
  await accepted(pair);
  assert.deepEqual([page.text(), loads.length], ["ready: Tea", 1]);
  const model = { id: 2, title: "Milk", version: 1 };
  await say(pair, "updated_model", { class: "Order", op: "created", model, version: 1 }, "orders:all", "e.1");
  assert.equal(page.text(), "ready: Tea, Milk");
  await page.unmount();
  await pass(pair);
  await pass(pair);
  assert.deepEqual(pair.link.next("tidings:unsubscribe").body, { channels: ["orders:all"] });
});

test("usePresence: who is there, asked for once, in two components", async () => {
  const pair = new TestPair();
  let renders = 0;
  const Count = () => ` of ${usePresence(pair.hub.channel(ROOM)).count}`;
  const page = await shown(() => {
    renders += 1;
    const { members, state } = usePresence(pair.hub.channel(ROOM));
    return [`${state}: ${members?.map(({ user }) => user).join(", ")}`, createElement(Count, { key: "count" })];
  }, {});
  assert.equal(page.text(), "loading:  of 0");
  await accepted(pair);
  pair.link.next("tidings:subscribe").answer({ presence: { [ROOM]: { recovered: false } } });
  await pass(pair);
  const members = [{ user: "ann", info: null }];
  pair.link.next("tidings:presence").answer({ cursor: "e.1", count: 1, members });
  await pass(pair);
  assert.equal(page.text(), "ready: ann of 1");
  await say(pair, "tidings:join", { members: [{ user: "bob", info: null }], count: 2 }, ROOM, "e.2");
  assert.equal(page.text(), "ready: ann, bob of 2");
  // Each change draws once, which StrictMode does twice.
  assert.equal(renders, 6);
  assert.deepEqual(pair.link.asked, []);
  await page.unmount();
  await pass(pair);
  assert.deepEqual(pair.link.next("tidings:unsubscribe").body, { presence: [ROOM] });
  assert.deepEqual(pair.link.next("tidings:unsubscribe").body, { channels: [ROOM] });
});

test("on a server everything is loading, and nothing is asked", async () => {
  const pair = new TestPair();
  const orders = pair.hub.collection("Order", { channel: "orders:all", load: () => [] });
  const Page = () => {
    useChannel(pair.hub.channel(ROOM), "said", () => {});
    return `${useCollection(orders).state} ${usePresence(pair.hub.channel(ROOM)).state}`;
  };
  assert.equal(renderToString(createElement(Page)), "loading loading");
  await settle();
  assert.deepEqual((await pair.link.accept()).channels, []);
});
