import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, test } from "node:test";
import { transformSync } from "esbuild";
import { Window } from "happy-dom";
import { SessionHarness, settle } from "./session_harness.js";
// Imported here, because they are loaded on first use otherwise.
import "../src/presence_client.js";
import "../src/core/rows.js";
import "../src/inbox.js";

const window = /** @type {any} */ (new Window());
Object.assign(globalThis, { window, document: window.document, IS_REACT_ACT_ENVIRONMENT: true });
globalThis.navigator ??= window.navigator;
// React uses the page when it is imported, so it is imported after this.
const { act, createElement, lazy, StrictMode, Suspense, useLayoutEffect, useState } = await import("react");
const { createRoot, hydrateRoot } = await import("react-dom/client");
const { renderToString } = await import("react-dom/server");
const { useChannel, useCollection, useInbox, usePresence } = await import("../src/react.js");

const ROOM = "room:1";
/** @type {import("react-dom/client").Root[]} */
const roots = [];

afterEach(async () => {
  for (const root of roots.splice(0)) {
    await act(() => root.unmount());
  }
});

/**
 * Renders a component in StrictMode, as development builds do: everything is mounted twice.
 *
 * @template {object} Props
 * @param {(props: Props) => any} component
 * @param {Props} first
 */
async function render(component, first) {
  const element = window.document.createElement("div");
  const root = createRoot(element);
  roots.push(root);
  const rerender = (/** @type {Props} */ props) =>
    act(() => root.render(createElement(StrictMode, null, createElement(component, props))));
  await rerender(first);
  return { render: rerender, unmount: () => act(() => root.unmount()), text: () => element.textContent };
}

/** @param {import("./session_harness.js").SessionHarness} harness */
async function accepted(harness) {
  await act(async () => {
    await settle();
    await harness.link.accept();
    await harness.clock.pass(0);
  });
}

/** @param {import("./session_harness.js").SessionHarness} harness */
function pass(harness, ms = 0) {
  return act(() => harness.clock.pass(ms));
}

/** Emits an event of the hub. */
function emit(harness, event, ...values) {
  return act(async () => harness.link.emit(event, ...values));
}

test("useChannel: each publication arrives once, with one subscribe and one unsubscribe", async () => {
  const harness = new SessionHarness();
  await accepted(harness);
  const received = [];
  const page = await render(() => {
    useChannel(harness.hub.channel(ROOM), "said", (data, { cursor }) => received.push([data, cursor]));
    return null;
  }, {});
  await pass(harness);
  assert.deepEqual(await harness.link.acceptSubscribe(), { channels: [ROOM] });
  await emit(harness, "said", "a", ROOM, "e.1");
  await emit(harness, "other", "b", ROOM, "e.2");
  await emit(harness, "said", "c", ROOM, "e.3");
  assert.deepEqual(received, [["a", "e.1"], ["c", "e.3"]]);
  assert.deepEqual(harness.link.requests, []);
  await page.unmount();
  await pass(harness);
  assert.deepEqual(harness.link.nextRequest("tidings:unsubscribe").body, { channels: [ROOM] });
  assert.deepEqual(harness.link.requests, []);
});

test("useChannel: the handler of the last render is called, without a new subscription", async (context) => {
  const harness = new SessionHarness();
  await accepted(harness);
  const scheduled = context.mock.method(harness.session, "subscribeSoon");
  const received = [];
  const page = await render(({ label }) => {
    const [count, setCount] = useState(0);
    useChannel(harness.hub.channel(ROOM), "said", (data) => {
      received.push(`${label} ${count} ${data}`);
      setCount(count + 1);
    });
    return count;
  }, { label: "a" });
  await pass(harness);
  await harness.link.acceptSubscribe();
  await pass(harness);
  const countBefore = scheduled.mock.callCount();
  await emit(harness, "said", 1, ROOM, "e.1");
  await page.render({ label: "b" });
  await emit(harness, "said", 2, ROOM, "e.2");
  await emit(harness, "said", 3, ROOM, "e.3");
  assert.deepEqual(received, ["a 0 1", "b 1 2", "b 2 3"]);
  assert.equal(page.text(), "3");
  await pass(harness);
  assert.deepEqual([scheduled.mock.callCount(), harness.link.requests], [countBefore, []]);
});

test("useChannel: effects of a render do not see the handler of an earlier render", async () => {
  const harness = new SessionHarness();
  await accepted(harness);
  const received = [];
  const page = await render(({ label }) => {
    useLayoutEffect(() => {
      harness.link.emit("said", label, ROOM, `e.${label}`);
    }, [label]);
    useChannel(harness.hub.channel(ROOM), "said", (data) => received.push([label, data]));
    return null;
  }, { label: 1 });
  await pass(harness);
  await harness.link.acceptSubscribe();
  await page.render({ label: 2 });
  assert.deepEqual(received, [[2, 2]]);
});

test("useChannel: the channel, the event and the hub can change", async () => {
  const harnesses = [new SessionHarness(), new SessionHarness()];
  await accepted(harnesses[0]);
  await accepted(harnesses[1]);
  const received = [];
  const page = await render(({ harness, name, event }) => {
    useChannel(harness.hub.channel(name), event, (data) => received.push(data));
    return null;
  }, { harness: harnesses[0], name: ROOM, event: "said" });
  await pass(harnesses[0]);
  await harnesses[0].link.acceptSubscribe();
  await page.render({ harness: harnesses[0], name: ROOM, event: "left" });
  await pass(harnesses[0]);
  assert.deepEqual(harnesses[0].link.requests, []);
  await emit(harnesses[0], "said", 1, ROOM, "e.1");
  await emit(harnesses[0], "left", 2, ROOM, "e.2");
  await page.render({ harness: harnesses[0], name: "room:2", event: "left" });
  await pass(harnesses[0]);
  assert.deepEqual(harnesses[0].link.nextRequest("tidings:unsubscribe").body, { channels: [ROOM] });
  assert.deepEqual(await harnesses[0].link.acceptSubscribe(), { channels: ["room:2"] });
  await page.render({ harness: harnesses[1], name: "room:2", event: "left" });
  await pass(harnesses[0]);
  await pass(harnesses[1]);
  assert.deepEqual(harnesses[0].link.nextRequest("tidings:unsubscribe").body, { channels: ["room:2"] });
  await harnesses[1].link.acceptSubscribe();
  await emit(harnesses[1], "left", 3, "room:2", "e.1");
  assert.deepEqual(received, [2, 3]);
});

test("useChannel: events of the channel itself", async () => {
  const harness = new SessionHarness();
  await accepted(harness);
  const states = [];
  await render(() => {
    useChannel(harness.hub.channel(ROOM), "tidings:state", (state) => states.push(state));
    return null;
  }, {});
  await pass(harness);
  await act(() => harness.link.acceptSubscribe());
  assert.deepEqual(states, ["subscribed"]);
});

test("useCollection: loads once and renders each change", async () => {
  const harness = new SessionHarness();
  const loads = [];
  const orders = harness.hub.collection("Order", {
    channel: "orders:all",
    load: () => {
      loads.push(1);
      return [{ id: 1, title: "Tea", version: 1 }];
    },
  });
  const page = await render(() => {
    const { items, state } = useCollection(orders);
    return `${state}: ${items.map(({ title }) => title).join(", ")}`;
  }, {});
  assert.equal(page.text(), "loading: ");
  await accepted(harness);
  assert.deepEqual([page.text(), loads.length], ["ready: Tea", 1]);
  const model = { id: 2, title: "Milk", version: 1 };
  await emit(harness, "updated_model", { class: "Order", op: "created", model, version: 1 }, "orders:all", "e.1");
  await pass(harness, 16);
  assert.equal(page.text(), "ready: Tea, Milk");
  await page.unmount();
  await pass(harness);
  await pass(harness);
  assert.deepEqual(harness.link.nextRequest("tidings:unsubscribe").body, { channels: ["orders:all"] });
});

test("usePresence: two components share one request", async () => {
  const harness = new SessionHarness();
  let renders = 0;
  const Count = () => ` of ${usePresence(harness.hub.channel(ROOM)).count}`;
  const page = await render(() => {
    renders += 1;
    const { members, state } = usePresence(harness.hub.channel(ROOM));
    return [`${state}: ${members?.map(({ user }) => user).join(", ")}`, createElement(Count, { key: "count" })];
  }, {});
  assert.equal(page.text(), "loading:  of 0");
  await accepted(harness);
  harness.link.nextRequest("tidings:subscribe").respond({ presence: { [ROOM]: { recovered: false } } });
  await pass(harness);
  const members = [{ user: "ann", info: null }];
  harness.link.nextRequest("tidings:presence").respond({ cursor: "e.1", count: 1, members });
  await pass(harness);
  assert.equal(page.text(), "ready: ann of 1");
  await emit(harness, "tidings:join", { members: [{ user: "bob", info: null }], count: 2 }, ROOM, "e.2");
  assert.equal(page.text(), "ready: ann, bob of 2");
  // Each change renders once, and StrictMode renders twice.
  assert.equal(renders, 6);
  assert.deepEqual(harness.link.requests, []);
  await page.unmount();
  await pass(harness);
  assert.deepEqual(harness.link.nextRequest("tidings:unsubscribe").body, { presence: [ROOM] });
  assert.deepEqual(harness.link.nextRequest("tidings:unsubscribe").body, { channels: [ROOM] });
});

test("server rendering: everything is loading, and nothing is requested", async () => {
  const harness = new SessionHarness();
  const orders = harness.hub.collection("Order", { channel: "orders:all", load: () => [] });
  const Page = () => {
    useChannel(harness.hub.channel(ROOM), "said", () => {});
    return `${useCollection(orders).state} ${usePresence(harness.hub.channel(ROOM)).state}`;
  };
  assert.equal(renderToString(createElement(Page)), "loading loading");
  await settle();
  assert.deepEqual((await harness.link.accept()).channels, []);
});

test("the README's component shows every publication, also of those between two renders", async () => {
  const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
  const example = String(/```jsx\n(.*?)```/s.exec(readme)?.[1]).replace(/^import .*$/gm, "");
  const { code } = transformSync(example, { loader: "jsx", jsxFactory: "createElement" });
  const harness = new SessionHarness();
  const names = { createElement, useState, useChannel, useCollection, usePresence, hub: harness.hub };
  const orders = harness.hub.collection("Order", { channel: "orders:all", load: () => [{ id: 1, version: 1 }] });
  const component = new Function(...Object.keys(names), "orders", `${code}\nreturn Room;`);
  const page = await render(component(...Object.values(names), orders), { id: 1 });
  await accepted(harness);
  // The list is loaded in other tasks.
  while (!page.text().includes("1 orders")) {
    await pass(harness);
  }
  await act(async () => {
    ["a", "b", "c"].forEach((text, index) => harness.link.emit("said", { text }, ROOM, `e.${index + 1}`));
  });
  assert.match(page.text(), /1 orders: a, b, c$/);
});

/**
 * Hydrates a page whose parts hydrate one after another: `ready` lets the second one hydrate.
 *
 * @param {() => any} part
 */
async function hydrate(part) {
  let ready = () => {};
  const code = new Promise((resolve) => {
    ready = () => resolve({ default: part });
  });
  const Late = lazy(() => code);
  const page = (/** @type {any} */ late) =>
    createElement("main", null, createElement(part), createElement(Suspense, null, createElement(late)));
  const element = window.document.createElement("div");
  element.innerHTML = renderToString(page(part));
  const fromServer = element.textContent;
  const mismatches = [];
  const onRecoverableError = (/** @type {any} */ error) => mismatches.push(error.message);
  await act(async () => roots.push(hydrateRoot(element, page(Late), { onRecoverableError })));
  return { ready: () => act(async () => ready()), text: () => element.textContent, fromServer, mismatches };
}

test("hydration: a boundary that hydrates after the list has loaded matches the server's page", async () => {
  const harness = new SessionHarness();
  const load = () => [{ id: 1, title: "Tea", version: 1 }];
  const orders = harness.hub.collection("Order", { channel: "orders:all", load });
  const page = await hydrate(() => {
    const { state, items } = useCollection(orders);
    return createElement("p", null, `${state} ${items.length}.`);
  });
  assert.equal(page.fromServer, "loading 0.loading 0.");
  await accepted(harness);
  assert.equal(page.text(), "ready 1.loading 0.");
  await page.ready();
  assert.deepEqual([page.mismatches, page.text()], [[], "ready 1.ready 1."]);
});

test("hydration: a boundary that hydrates after the members have loaded matches the server's page", async () => {
  const harness = new SessionHarness();
  const page = await hydrate(() => {
    const { state, count } = usePresence(harness.hub.channel(ROOM));
    return createElement("p", null, `${state} ${count}.`);
  });
  await accepted(harness);
  harness.link.nextRequest("tidings:subscribe").respond({ presence: { [ROOM]: { recovered: false } } });
  await pass(harness);
  const members = [{ user: "ann", info: null }];
  harness.link.nextRequest("tidings:presence").respond({ cursor: "e.1", count: 1, members });
  await pass(harness);
  assert.equal(page.text(), "ready 1.loading 0.");
  await page.ready();
  assert.deepEqual([page.mismatches, page.text()], [[], "ready 1.ready 1."]);
});

/** Answers the requests for a page of the inbox, of which StrictMode sends one more. */
async function answerPages(harness, title) {
  await pass(harness);
  const requests = harness.link.requests.splice(0);
  const times = { created_at: 1, seen_at: null, read_at: null, archived_at: null };
  await act(async () => {
    for (const { body: { category }, respond } of requests) {
      const items = [{ id: "n1", category, title, count: 1, ...times }];
      respond({ items, counts: { unseen: 1, unread: 1 }, version: 5, next: null });
    }
    await settle();
  });
  return requests.map(({ event, body }) => `${event} ${body.category}`);
}

test("useInbox: the snapshot of the inbox for the options of the last render", async () => {
  const harness = new SessionHarness();
  await accepted(harness);
  const inboxes = new Set();
  const page = await render(({ category }) => {
    const { items, counts, state, inbox } = useInbox(harness.hub, { category });
    inboxes.add(inbox);
    return `${state} ${counts.unseen} ${items.map(({ title }) => title)}`;
  }, { category: "order" });
  assert.equal(new Set(await answerPages(harness, "It has shipped")).has("tidings:inbox order"), true);
  assert.equal(page.text(), "ready 1 It has shipped");
  await page.render({ category: "news" });
  assert.equal(new Set(await answerPages(harness, "Today")).has("tidings:inbox news"), true);
  assert.equal(page.text(), "ready 1 Today");
  await page.unmount();
  const event = { changed: [], all: { state: "read", at: 2 }, counts: { unseen: 9, unread: 9 }, version: 9 };
  await emit(harness, "tidings:inbox", event, "user:7", "e.1");
  await pass(harness);
  assert.deepEqual(harness.link.requests.filter((request) => request.event === "tidings:inbox"), []);
  assert.equal([...inboxes].every((inbox) => inbox === undefined || inbox.getSnapshot().counts.unseen === 1), true);
});

test("useInbox: no render with another hub shows the inbox of the last one", async () => {
  const harnesses = [new SessionHarness(), new SessionHarness()];
  for (const harness of harnesses) {
    await accepted(harness);
  }
  /** @type {string[]} */
  const renders = [];
  const page = await render(({ index }) => {
    const { items, inbox } = useInbox(harnesses[index].hub);
    renders.push(`${index} ${items.map(({ title }) => title)} ${inbox !== undefined}`);
    return null;
  }, { index: 0 });
  await answerPages(harnesses[0], "Of the first user");
  assert.equal(renders.at(-1), "0 Of the first user true");
  renders.length = 0;
  await page.render({ index: 1 });
  await answerPages(harnesses[1], "Of the second user");
  assert.equal(renders.at(-1), "1 Of the second user true");
  assert.deepEqual(renders.filter((text) => text.includes("Of the first user")), []);
});

test("useInbox: code that cannot be loaded is a failed inbox, and retry loads it", async () => {
  const harness = new SessionHarness();
  await accepted(harness);
  const error = new Error("offline");
  const { parts } = harness.session.environment;
  harness.session.environment.parts = { ...parts, inbox: () => Promise.reject(error) };
  /** @type {() => void} */
  let retry = () => {};
  const page = await render(() => {
    const { state, error: shown, inbox, retry: again } = useInbox(harness.hub);
    retry = again;
    return `${state} ${shown?.message} ${inbox}`;
  }, {});
  await pass(harness);
  assert.equal(page.text(), "failed offline undefined");
  harness.session.environment.parts = parts;
  await act(retry);
  await answerPages(harness, "It has shipped");
  assert.equal(page.text(), "ready undefined [object Object]");
});
