import assert from "node:assert/strict";
import { test } from "node:test";
import { SessionHarness, settle } from "./session_harness.js";

/**
 * @param {number} number
 * @param {object} [changes]
 */
function itemOf(number, changes) {
  const times = { created_at: number, seen_at: null, read_at: null, archived_at: null };
  return { id: `n${number}`, category: "order", title: `Number ${number}`, count: 1, ...times, ...changes };
}

/** @param {object} [options] */
async function begin(options) {
  const harness = new SessionHarness();
  const inbox = await harness.hub.inbox(options);
  await harness.link.accept();
  return { harness, inbox };
}

/**
 * @param {SessionHarness} harness
 * @param {object} [page]
 */
async function answer(harness, page) {
  const request = harness.link.nextRequest("tidings:inbox");
  const items = [itemOf(2), itemOf(1)];
  request.respond({ items, counts: { unseen: 2, unread: 2 }, version: 5, next: null, ...page });
  await settle();
  return request.body;
}

let seq = 0;

/**
 * @param {SessionHarness} harness
 * @param {string} event
 * @param {object} body
 */
async function emit(harness, event, body) {
  seq += 1;
  harness.link.emit(event, body, "user:7", `e.${seq}`);
  await settle();
}

const idsOf = (/** @type {any} */ inbox) => inbox.getSnapshot().items.map((/** @type {any} */ { id }) => id);

test("the first page, then a new notification and a replaced one", async () => {
  const { harness, inbox } = await begin({ category: "order" });
  assert.equal(inbox.getSnapshot().state, "loading");
  assert.deepEqual(await answer(harness), { category: "order", limit: 30 });
  assert.deepEqual([inbox.getSnapshot().state, idsOf(inbox)], ["ready", ["n2", "n1"]]);
  const counts = { unseen: 2, unread: 2 };
  await emit(harness, "tidings:notification", { item: itemOf(3), counts, version: 6, replaces: ["n1"] });
  assert.deepEqual(idsOf(inbox), ["n3", "n2"]);
  const other = itemOf(4, { category: "other" });
  await emit(harness, "tidings:notification", { item: other, counts: { unseen: 3, unread: 3 }, version: 7 });
  assert.deepEqual([idsOf(inbox), inbox.getSnapshot().counts.unseen], [["n3", "n2"], 3]);
  assert.equal(harness.link.requests.length, 0);
});

test("a mark is shown at once, stays until its event, and rolls back when it is refused", async () => {
  const { harness, inbox } = await begin();
  await answer(harness);
  const marked = inbox.markRead(["n1"]);
  assert.deepEqual(inbox.getSnapshot().counts, { unseen: 1, unread: 1 });
  const request = harness.link.nextRequest("tidings:inbox_mark");
  assert.deepEqual(request.body, { action: "read", ids: ["n1"] });
  request.respond({ version: 6, counts: { unseen: 1, unread: 1 } });
  await marked;
  assert.notEqual(inbox.getSnapshot().items[1]?.read_at, null);
  const changed = [{ id: "n1", seen_at: 9, read_at: 9, archived_at: null }];
  await emit(harness, "tidings:inbox", { changed, counts: { unseen: 1, unread: 1 }, version: 6 });
  assert.deepEqual([inbox.getSnapshot().items[1]?.read_at, inbox.getSnapshot().counts.unread], [9, 1]);
  const refused = inbox.archiveAll();
  assert.deepEqual([idsOf(inbox), inbox.getSnapshot().counts], [[], { unseen: 0, unread: 0 }]);
  const { body, respond } = harness.link.nextRequest("tidings:inbox_mark");
  assert.deepEqual(body, { action: "archive", all: true });
  respond({ error: { code: "forbidden", message: "No." } });
  await assert.rejects(refused, { code: "forbidden" });
  assert.deepEqual([idsOf(inbox), inbox.getSnapshot().counts], [["n2", "n1"], { unseen: 1, unread: 1 }]);
});

test("the event of a mark that does not come is made up for by a load", async () => {
  const { harness, inbox } = await begin();
  await answer(harness);
  const marked = inbox.markAllRead();
  harness.link.nextRequest("tidings:inbox_mark").respond({ version: 6 });
  await marked;
  await harness.clock.pass(5000);
  await answer(harness, { items: [itemOf(2, { read_at: 4 })], version: 6, counts: { unseen: 0, unread: 0 } });
  assert.deepEqual(inbox.getSnapshot().items.map(({ read_at: readAt }) => readAt), [4]);
});

test("a hole in the versions and a gap load again, and keep what is shown", async () => {
  const { harness, inbox } = await begin();
  await answer(harness);
  await emit(harness, "tidings:inbox", { changed: [], counts: { unseen: 0, unread: 0 }, version: 8 });
  assert.deepEqual(idsOf(inbox), ["n2", "n1"]);
  const counts = { unseen: 3, unread: 3 };
  await emit(harness, "tidings:notification", { item: itemOf(4), counts, version: 9 });
  await answer(harness, { items: [itemOf(3)], version: 8 });
  assert.deepEqual([idsOf(inbox), inbox.getSnapshot().counts], [["n4", "n3"], counts]);
  harness.link.emit("tidings:gap", { cursor: "e.9", channels: { "user:7": { recovered: false } } }, "e.9");
  await settle();
  await answer(harness, { items: [itemOf(5)], version: 9 });
  assert.deepEqual(idsOf(inbox), ["n5"]);
});

test("marks of all, deletions, and a notification that comes back", async () => {
  const { harness, inbox } = await begin();
  await answer(harness);
  const none = { unseen: 0, unread: 0 };
  await emit(harness, "tidings:inbox", { changed: [], all: { state: "read", at: 8 }, counts: none, version: 6 });
  assert.deepEqual(inbox.getSnapshot().items.map(({ read_at: readAt }) => readAt), [8, 8]);
  await emit(harness, "tidings:inbox", { changed: [{ id: "n2", deleted: true }], counts: none, version: 7 });
  assert.deepEqual(idsOf(inbox), ["n1"]);
  const back = { id: "n0", seen_at: 1, read_at: 1, archived_at: null };
  await emit(harness, "tidings:inbox", { changed: [back], counts: none, version: 8 });
  await answer(harness, { items: [itemOf(1), itemOf(0)], version: 8 });
  assert.deepEqual(idsOf(inbox), ["n1", "n0"]);
});

test("the next page, a failed load, another user, and close", async () => {
  const { harness, inbox } = await begin({ limit: 2 });
  await answer(harness, { next: "p" });
  const more = inbox.loadMore();
  assert.deepEqual(await answer(harness, { items: [itemOf(0)] }), { limit: 2, before: "p" });
  await more;
  assert.deepEqual([idsOf(inbox), inbox.getSnapshot().hasMore], [["n2", "n1", "n0"], false]);
  await emit(harness, "tidings:inbox", { changed: [], counts: {}, version: 9 });
  harness.link.nextRequest("tidings:inbox").respond({ error: { code: "not_found", message: "No inboxes." } });
  await settle();
  assert.deepEqual([inbox.getSnapshot().state, inbox.getSnapshot().error?.code], ["failed", "not_found"]);
  harness.hub.close();
  assert.deepEqual(idsOf(inbox), []);
  inbox.close();
  harness.hub.connect();
  await settle();
  await harness.link.accept();
  assert.equal(harness.link.requests.length, 0);
});

test("preferences", async () => {
  const { harness, inbox } = await begin();
  await answer(harness);
  const preferences = inbox.setPreference("order", "in_app", false);
  const { body, respond } = harness.link.nextRequest("tidings:inbox_preferences");
  assert.deepEqual(body, { category: "order", method: "in_app", enabled: false });
  respond({ preferences: [] });
  assert.deepEqual(await preferences, []);
});

test("reload loads a failed inbox again", async () => {
  const { harness, inbox } = await begin();
  harness.link.nextRequest("tidings:inbox").respond({ error: { code: "not_found", message: "No inboxes." } });
  await settle();
  assert.equal(inbox.getSnapshot().state, "failed");
  void inbox.reload();
  await answer(harness);
  assert.deepEqual([inbox.getSnapshot().state, idsOf(inbox)], ["ready", ["n2", "n1"]]);
});

test("a mark is shown in all inboxes of the hub at once, with counts, also where its item is not loaded", async () => {
  const { harness, inbox } = await begin();
  await answer(harness);
  const news = await harness.hub.inbox({ category: "news" });
  const archived = inbox.part({ archived: true });
  await settle();
  await answer(harness, { items: [] });
  await answer(harness, { items: [] });
  const moved = inbox.archive(["n2"]);
  assert.deepEqual([idsOf(inbox), idsOf(news), idsOf(archived)], [["n1"], [], ["n2"]]);
  const counts = { unseen: 1, unread: 1 };
  for (const { getSnapshot } of [inbox, news, archived]) {
    assert.deepEqual(getSnapshot().counts, counts);
  }
  // An inbox that is opened meanwhile has it as well.
  const late = await harness.hub.inbox();
  const { respond } = harness.link.nextRequest("tidings:inbox_mark");
  await answer(harness);
  assert.deepEqual([idsOf(late), late.getSnapshot().counts], [["n1"], counts]);
  respond({ version: 6 });
  await moved;
  const changed = [{ id: "n2", seen_at: null, read_at: null, archived_at: 8 }];
  await emit(harness, "tidings:inbox", { changed, counts, version: 6 });
  // The archive does not know the item that has come in, so it loads.
  await answer(harness, { items: [itemOf(2, { archived_at: 8 })], counts, version: 6 });
  assert.deepEqual([idsOf(inbox), idsOf(archived), idsOf(late)], [["n1"], ["n2"], ["n1"]]);
  assert.deepEqual([inbox, news, archived, late].map(({ getSnapshot }) => getSnapshot().counts.unread), [1, 1, 1, 1]);
  assert.equal(harness.link.requests.length, 0);
});

test("a mark that is refused is taken back in all inboxes; a closed one shows it no longer", async () => {
  const { harness, inbox } = await begin();
  await answer(harness);
  const other = inbox.part({});
  const closed = inbox.part({});
  await settle();
  await answer(harness);
  await answer(harness);
  closed.close();
  const marked = inbox.markRead(["n1"]);
  assert.deepEqual([other, closed].map(({ getSnapshot }) => getSnapshot().counts.unread), [1, 2]);
  harness.link.nextRequest("tidings:inbox_mark").respond({ error: { code: "forbidden", message: "No." } });
  await assert.rejects(marked, { code: "forbidden" });
  assert.deepEqual(other.getSnapshot().counts, { unseen: 2, unread: 2 });
});

test("without a connection an inbox that is not loaded is failed, and retry connects", async () => {
  const harness = new SessionHarness();
  const inbox = await harness.hub.inbox();
  await settle();
  await harness.link.disconnect({ message: "No route." });
  assert.deepEqual([inbox.getSnapshot().state, inbox.getSnapshot().error?.message], ["failed", "No route."]);
  void inbox.retry();
  await settle();
  await harness.link.accept();
  await answer(harness);
  assert.equal(inbox.getSnapshot().state, "ready");
  harness.hub.close();
  assert.deepEqual([inbox.getSnapshot().state, inbox.getSnapshot().error?.code], ["failed", "closed"]);
  // The same user signs in again.
  void inbox.retry();
  await settle();
  await harness.link.accept();
  await answer(harness);
  assert.deepEqual([inbox.getSnapshot().state, idsOf(inbox)], ["ready", ["n2", "n1"]]);
});

for (const [what, user] of [["the same user", "7"], ["another user", "8"]]) {
  test(`after close() and connect() as ${what} the inbox is loaded again`, async () => {
    const { harness, inbox } = await begin();
    await answer(harness);
    harness.hub.close();
    await settle();
    assert.deepEqual([idsOf(inbox), inbox.getSnapshot().state], [[], "failed"]);
    harness.hub.connect();
    await settle();
    await harness.link.accept({ user, channels: { [`user:${user}`]: { recovered: user === "7" } } });
    await answer(harness, { items: [itemOf(3)], version: 1 });
    assert.deepEqual([idsOf(inbox), inbox.getSnapshot().state], [["n3"], "ready"]);
  });
}

test("an inbox that was opened while nobody was signed in is loaded after the sign-in", async () => {
  let token = null;
  const harness = new SessionHarness({ getToken: () => token });
  const inbox = await harness.hub.inbox();
  await settle();
  assert.deepEqual([inbox.getSnapshot().state, inbox.getSnapshot().error?.code], ["failed", "unauthorized"]);
  token = "t";
  harness.hub.connect();
  await settle();
  await harness.link.accept();
  await answer(harness);
  assert.deepEqual([idsOf(inbox), inbox.getSnapshot().state], [["n2", "n1"], "ready"]);
});

test("another user without a close: nothing of the last one is shown, whatever the hub answers", async () => {
  const harness = new SessionHarness({ getToken: () => "t" });
  const inbox = await harness.hub.inbox();
  await settle();
  await harness.link.accept();
  await answer(harness);
  await harness.link.disconnect({ code: "disconnected" });
  await harness.clock.pass(20_000);
  await harness.link.accept({ user: "8", channels: { "user:8": {} } });
  assert.deepEqual([harness.hub.user, idsOf(inbox), inbox.getSnapshot().state], ["8", [], "loading"]);
  harness.link.nextRequest("tidings:inbox").respond({ error: { code: "not_found", message: "No inboxes." } });
  await settle();
  assert.deepEqual([idsOf(inbox), inbox.getSnapshot().error?.code], [[], "not_found"]);
});

test("an answer that arrives with the close is not shown", async () => {
  for (let steps = 0; steps < 10; steps += 1) {
    const { harness, inbox } = await begin();
    const { respond } = harness.link.nextRequest("tidings:inbox");
    respond({ items: [itemOf(1)], counts: { unseen: 1, unread: 1 }, version: 5, next: null });
    for (let step = 0; step < steps; step += 1) {
      await undefined;
    }
    harness.hub.close();
    await settle();
    assert.deepEqual(idsOf(inbox), [], `after ${steps} steps`);
  }
});
