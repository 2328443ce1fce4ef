import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { Rows, fieldVersion } from "../src/core/rows.js";
import { SessionHarness, settle } from "./session_harness.js";

/** @typedef {{id: number, v?: number, name?: string}} Model */

const FRAME_MS = 16;

const rowsOf = () => new Rows("Order", (/** @type {Model} */ model) => model.id, (model) => model.v);

/**
 * Rows without the option `version`, and the warnings that they write until the test ends.
 *
 * @param {import("node:test").TestContext} context
 */
function rowsAndWarnings(context) {
  const { mock } = context.mock.method(console, "warn", () => {});
  const rows = new Rows("Order", (/** @type {any} */ model) => model.id);
  return { rows, warnings: () => mock.calls.map((call) => String(call.arguments[0])) };
}

describe("rows", () => {
  test("an older version does not replace a newer one", () => {
    const rows = rowsOf();
    rows.apply("created", { id: 1, name: "new" }, 5);
    assert.equal(rows.apply("updated", { id: 1, name: "old" }, 4), false);
    assert.equal(rows.apply("deleted", { id: 1 }, 4), false);
    assert.deepEqual(rows.models, [{ id: 1, name: "new" }]);
    assert.equal(rows.apply("updated", { id: 1, name: "same" }, 5), true);
    assert.equal(rows.apply("deleted", { id: 1 }, 5), true);
    assert.equal(rows.apply("updated", { id: 1, name: "late" }, 5), false);
    assert.deepEqual(rows.models, []);
    assert.equal(rows.apply("updated", { id: 1, name: "again" }, 6), true);
    assert.deepEqual(rows.models, [{ id: 1, name: "again" }]);
  });

  test("a load replaces all rows except newer ones", () => {
    const rows = rowsOf();
    rows.load([{ id: 1, v: 1 }, { id: 2, v: 1 }, { id: 3, v: 1 }, { id: 4, v: 1 }]);
    rows.apply("updated", { id: 2, name: "newer than the load" }, 9);
    rows.apply("deleted", { id: 3 }, 9);
    rows.startLoad();
    rows.apply("created", { id: 5, name: "while loading" }, 1);
    rows.load([{ id: 2, v: 2 }, { id: 3, v: 2 }, { id: 1, v: 2 }]);
    assert.deepEqual(rows.models, [
      { id: 2, name: "newer than the load" },
      { id: 1, v: 2 },
      { id: 5, name: "while loading" },
    ]);
  });

  test("models without a version: a change during the load is newer than the loaded model", () => {
    const rows = rowsOf();
    rows.apply("updated", { id: 1, name: "before" }, 5);
    rows.apply("deleted", { id: 2 }, 5);
    rows.startLoad();
    rows.apply("updated", { id: 3, name: "during" }, 5);
    rows.apply("deleted", { id: 4 }, 5);
    rows.load([1, 2, 3, 4].map((id) => ({ id, name: "loaded" })));
    assert.deepEqual(rows.models.map(({ id, name }) => [id, name]), [[1, "loaded"], [2, "loaded"], [3, "during"]]);
  });

  test("only the latest deleted versions are kept", () => {
    const rows = rowsOf();
    for (let id = 2; id < 1500; id += 1) {
      rows.apply("deleted", { id }, 9);
    }
    assert.equal(rows.apply("updated", { id: 2 }, 1), true);
    assert.equal(rows.apply("updated", { id: 1499 }, 1), false);
  });

  test("versions can be strings", () => {
    const rows = rowsOf();
    rows.apply("created", { id: 1 }, "2026-02");
    assert.equal(rows.apply("updated", { id: 1, name: "old" }, "2026-01"), false);
    assert.equal(rows.apply("updated", { id: 1, name: "new" }, "2026-03"), true);
  });

  test("versions match the vectors shared with Python", () => {
    const url = new URL("../../tests/vectors/model_version.json", import.meta.url);
    const { good } = JSON.parse(readFileSync(url, "utf8"));
    for (const { model, field, version } of good) {
      assert.equal(fieldVersion(model, `field:${field}`, version), version, JSON.stringify(model));
    }
    for (const model of [{}, { version: "1" }, { version: "yesterday" }, { version: null }]) {
      assert.equal(fieldVersion(model, "field:version", 1), undefined, JSON.stringify(model));
    }
    assert.equal(fieldVersion({ version: 1, clock: 1, given: 1 }, "given", 1), undefined);
  });
});

describe("kinds of versions", () => {
  test("a loaded row ranks by the field that the push names", (context) => {
    const { rows, warnings } = rowsAndWarnings(context);
    const loaded = { id: 1, turn: 3, updated_at: "2026-11-22T20:35:01Z", version: 90 };
    rows.load([loaded]);
    assert.equal(rows.apply("updated", { id: 1, name: "old" }, 2, "field:turn"), false);
    assert.equal(rows.apply("updated", { id: 1, name: "new" }, 4, "field:turn"), true);
    rows.load([loaded]);
    assert.deepEqual(rows.models, [{ id: 1, name: "new" }]);
    rows.load([{ ...loaded, turn: 5 }]);
    assert.equal(rows.models[0].turn, 5);
    assert.deepEqual(warnings(), []);
  });

  test("unlike kinds are not compared: the later arrival wins, with one warning", (context) => {
    const { rows, warnings } = rowsAndWarnings(context);
    rows.load([{ id: 1, updated_at: "2026-11-22T20:35:01Z" }, { id: 2, turn: 9 }]);
    assert.equal(rows.apply("updated", { id: 1, name: "by turn" }, 2, "field:turn"), true);
    assert.equal(rows.apply("updated", { id: 1, name: "given" }, 1, "given"), true);
    assert.equal(rows.apply("updated", { id: 2, turn: "9" }, "a", "field:turn"), true);
    assert.deepEqual(rows.models, [{ id: 1, name: "given" }, { id: 2, turn: "9" }]);
    assert.equal(warnings().length, 1);
    assert.match(warnings()[0], /versions of Order cannot be compared.*"field:turn" of a push with a loaded model/);
    // A load is later than what was pushed before it.
    rows.startLoad();
    rows.load([{ id: 1, name: "loaded" }]);
    assert.deepEqual(rows.models, [{ id: 1, name: "loaded" }]);
  });

  test("a backend whose clock is behind loses nothing, and one clock keeps its order", (context) => {
    const { rows, warnings } = rowsAndWarnings(context);
    const now = Date.now() * 1000;
    rows.load([{ id: 1, updated_at: new Date().toISOString() }]);
    assert.equal(rows.apply("updated", { id: 1, name: "right clock" }, now, "clock:a"), true);
    assert.equal(rows.apply("updated", { id: 1, name: "clock behind" }, now - 60e6, "clock:b"), true);
    assert.equal(rows.apply("updated", { id: 1, name: "late" }, now - 61e6, "clock:b"), false);
    assert.deepEqual(rows.models, [{ id: 1, name: "clock behind" }]);
    assert.equal(rows.apply("deleted", { id: 1 }, now - 70e6, "clock:a"), true);
    assert.equal(rows.apply("created", { id: 1, name: "late" }, now - 71e6, "clock:a"), false);
    rows.startLoad();
    rows.load([{ id: 1, name: "loaded after the deletion" }]);
    assert.equal(rows.models.length, 1);
    assert.deepEqual(warnings(), []);
  });

  test("the database's clock orders pushes of all backends, and mixed pushes are reported", (context) => {
    const { rows, warnings } = rowsAndWarnings(context);
    assert.equal(rows.apply("updated", { id: 1, name: "second" }, 20, "database"), true);
    assert.equal(rows.apply("updated", { id: 1, name: "first" }, 10, "database"), false);
    assert.deepEqual(warnings(), []);
    assert.equal(rows.apply("updated", { id: 1, name: "by hand" }, 5, "clock:a"), true);
    assert.match(warnings()[0], /"clock:a" of a push with "database" of another one/);
  });

  test("the option version is compared with counters, not with clocks", (context) => {
    const { mock } = context.mock.method(console, "warn", () => {});
    const rows = rowsOf();
    rows.load([{ id: 1, v: 5 }]);
    assert.equal(rows.apply("updated", { id: 1, name: "old" }, 4, "field:turn"), false);
    assert.equal(rows.apply("updated", { id: 1, name: "old" }, 4, "given"), false);
    assert.equal(mock.calls.length, 0);
    assert.equal(rows.apply("updated", { id: 1, name: "new" }, 4, "database"), true);
    assert.equal(mock.calls.length, 1);
  });

  test("a counter starts again for a row that is created again under its old key", () => {
    const rows = rowsOf();
    rows.apply("deleted", { id: 1 }, 9, "field:turn");
    assert.equal(rows.apply("updated", { id: 1, name: "late" }, 8, "field:turn"), false);
    assert.equal(rows.apply("created", { id: 1, name: "again" }, 1, "field:turn"), true);
    assert.deepEqual(rows.models, [{ id: 1, name: "again" }]);
  });
});

/** A collection on a harness. `load` returns `server.models` after `server.wait`. */
function testCollection(options = {}) {
  const harness = new SessionHarness();
  const server = { models: /** @type {Model[]} */ ([]), loads: 0, failing: false, wait: Promise.resolve() };
  const collection = harness.hub.collection("Order", {
    channel: "orders:all",
    version: (/** @type {Model} */ model) => model.v,
    load: async () => {
      server.loads += 1;
      const { models } = server;
      await server.wait;
      if (server.failing) {
        throw new Error("502");
      }
      return structuredClone(models);
    },
    ...options,
  });
  const push = (op, model, version, of = "Order") =>
    harness.link.emit("updated_model", { class: of, model, op, version }, "orders:all", `e.${(push.seq += 1)}`);
  push.seq = 0;
  const shownIds = () => collection.getSnapshot().items.map((model) => model.id);
  return { harness, server, collection, push, shownIds };
}

describe("collection", () => {
  test("loads after the subscription and applies pushes", async () => {
    const { harness, server, collection, push, shownIds } = testCollection();
    server.models = [{ id: 1, v: 1 }, { id: 2, v: 1 }];
    const snapshots = [];
    collection.subscribe((snapshot) => snapshots.push([snapshot.state, snapshot.items.length]));
    await settle();
    assert.equal(server.loads, 0);
    await harness.link.accept();
    assert.deepEqual(shownIds(), [1, 2]);
    push("created", { id: 3 }, 1);
    push("updated", { id: 1, name: "b" }, 2);
    push("deleted", { id: 2 }, 2);
    push("created", { id: 9 }, 1, "Invoice");
    harness.link.emit("other", { class: "Order", model: { id: 8 }, op: "created", version: 1 }, "orders:all", "e.90");
    await harness.clock.pass(FRAME_MS);
    assert.deepEqual(collection.getSnapshot().items, [{ id: 1, name: "b" }, { id: 3 }]);
    // The pushes of a frame cause one snapshot.
    assert.deepEqual(snapshots, [["loading", 0], ["ready", 2], ["ready", 2]]);
    assert.equal(server.loads, 1);
  });

  test("a snapshot is the same object until a change, and is immutable", async () => {
    const { harness, server, collection, push } = testCollection();
    server.models = [{ id: 1, v: 5 }];
    collection.subscribe(() => {});
    await settle();
    await harness.link.accept();
    const { subscribe, getSnapshot } = collection;
    const before = getSnapshot();
    assert.equal(getSnapshot(), before);
    push("updated", { id: 1, name: "old" }, 4);
    await harness.clock.pass(FRAME_MS);
    assert.equal(getSnapshot(), before);
    push("updated", { id: 1, name: "new" }, 6);
    await harness.clock.pass(FRAME_MS);
    assert.notEqual(getSnapshot(), before);
    assert.deepEqual(before.items, [{ id: 1, v: 5 }]);
    assert.ok(Object.isFrozen(before) && Object.isFrozen(before.items));
    const off = subscribe(() => {});
    off();
  });

  test("loads again after a gap, but not after a recovery", async () => {
    const { harness, server, collection, push, shownIds } = testCollection();
    collection.subscribe(() => {});
    await settle();
    await harness.link.accept();
    push("created", { id: 1 }, 1);
    await harness.link.disconnect({});
    await harness.clock.pass(1000);
    await harness.link.accept();
    assert.equal(server.loads, 1);
    server.models = [{ id: 4, v: 1 }];
    harness.link.emit("tidings:gap", { cursor: "f.1", channels: { "orders:all": { recovered: false } } });
    await settle();
    assert.deepEqual([server.loads, shownIds()], [2, [4]]);
  });

  test("a push during a load is kept, and an outdated load is ignored", async () => {
    const { harness, server, collection, push, shownIds } = testCollection();
    collection.subscribe(() => {});
    await settle();
    let finishLoad = () => {};
    server.models = [{ id: 1, v: 1 }];
    server.wait = new Promise((resolve) => {
      finishLoad = resolve;
    });
    await harness.link.accept();
    push("updated", { id: 1, name: "newer" }, 2);
    push("created", { id: 2 }, 1);
    await settle();
    assert.equal(collection.getSnapshot().state, "loading");
    server.wait = Promise.resolve();
    server.models = [{ id: 1, v: 1 }, { id: 3, v: 1 }];
    collection.reload();
    await settle();
    push("created", { id: 4 }, 1);
    await harness.clock.pass(FRAME_MS);
    // Model 2 was pushed before the second load started, so that load would include it.
    assert.deepEqual(shownIds(), [1, 3, 4]);
    assert.equal(collection.getSnapshot().items[0].name, "newer");
    server.models = [];
    finishLoad();
    await settle();
    assert.deepEqual(shownIds(), [1, 3, 4]);
    assert.equal(server.loads, 2);
  });

  test("several reloads at once cause one load", async () => {
    const { harness, server, collection } = testCollection();
    collection.subscribe(() => {});
    await settle();
    await harness.link.accept();
    collection.reload();
    collection.reload();
    await settle();
    assert.equal(server.loads, 2);
  });

  test("a failed load is reported and retried", async () => {
    const { harness, server, collection, push, shownIds } = testCollection();
    server.failing = true;
    collection.subscribe(() => {});
    await settle();
    await harness.link.accept();
    const { state, error } = collection.getSnapshot();
    assert.equal(state, "failed");
    assert.deepEqual([error?.code, error?.channel, error?.message], [
      "load_failed", "orders:all", "The list was not loaded: 502",
    ]);
    assert.ok(error?.cause instanceof Error && error.cause.message === "502");
    push("created", { id: 7 }, 1);
    await harness.clock.pass(FRAME_MS);
    assert.deepEqual(shownIds(), [7]);
    server.failing = false;
    server.models = [{ id: 7, v: 1 }, { id: 8, v: 1 }];
    await harness.clock.pass(1000);
    const after = collection.getSnapshot();
    assert.deepEqual([after.state, after.error, shownIds()], ["ready", undefined, [7, 8]]);
  });

  test("without a hub the list is loaded anyway, and again after the subscription", async () => {
    const { harness, server, collection } = testCollection();
    collection.subscribe(() => {});
    await harness.clock.pass(2000);
    assert.deepEqual([server.loads, collection.getSnapshot().state], [1, "ready"]);
    await harness.link.accept();
    assert.equal(server.loads, 2);
  });

  test("is active while it has subscribers", async () => {
    const { harness, server, collection } = testCollection();
    const off = collection.subscribe(() => {});
    await settle();
    await harness.link.accept();
    off();
    const offSecond = collection.subscribe(() => {});
    await harness.clock.pass(0);
    assert.deepEqual([server.loads, harness.link.requests], [1, []]);
    offSecond();
    await harness.clock.pass(0);
    await harness.clock.pass(0);
    assert.deepEqual(harness.link.nextRequest("tidings:unsubscribe").body, { channels: ["orders:all"] });
    collection.reload();
    assert.equal(server.loads, 1);
    collection.subscribe(() => {});
    await harness.clock.pass(0);
    await harness.link.acceptSubscribe();
    assert.equal(server.loads, 2);
  });

  test("without subscribers it forgets its models, whose changes it does not get any more", async () => {
    const { harness, server, collection } = testCollection();
    server.models = [{ id: 1 }];
    const off = collection.subscribe(() => {});
    await settle();
    await harness.link.accept();
    assert.deepEqual([collection.getSnapshot().items.length, server.loads], [1, 1]);
    off();
    await harness.clock.pass(FRAME_MS);
    harness.link.nextRequest("tidings:unsubscribe");
    /** @type {unknown[]} */
    const states = [];
    collection.subscribe(({ state, items }) => states.push([state, items.length]));
    assert.deepEqual(states, [["loading", 0]]);
    await harness.clock.pass(0);
    await harness.link.acceptSubscribe();
    assert.deepEqual([states.at(-1), server.loads], [["ready", 1], 2]);
  });

  test("a model whose key is loaded as text and pushed as a number is one row", async () => {
    const { harness, server, collection, push } = testCollection();
    server.models = [/** @type {any} */ ({ id: "1", v: 1 }), { id: 2, v: 1 }];
    collection.subscribe(() => {});
    await settle();
    await harness.link.accept();
    push("updated", { id: 1, v: 2, name: "new" }, 2);
    push("deleted", /** @type {any} */ ({ id: "2", v: 2 }), 2);
    await harness.clock.pass(FRAME_MS);
    assert.deepEqual(collection.getSnapshot().items, [{ id: 1, v: 2, name: "new" }]);
  });

  test("uses sort and key options", async () => {
    const { harness, server, collection } = testCollection({
      key: "sku",
      sort: (/** @type {{sku: string}} */ a, /** @type {{sku: string}} */ b) => a.sku.localeCompare(b.sku),
    });
    server.models = /** @type {any} */ ([{ sku: "b" }, { sku: "a" }]);
    collection.subscribe(() => {});
    await settle();
    await harness.link.accept();
    assert.deepEqual(collection.getSnapshot().items, [{ sku: "a" }, { sku: "b" }]);
  });

  for (const [what, loaded, text] of /** @type {[string, any, RegExp][]} */ ([
    ["a page of models", { results: [] }, /value of type object; return the array/u],
    ["nothing", undefined, /value of type undefined; return the array/u],
    ["null among the models", [{ id: 1 }, null], /a model without "id"; name its key/u],
    ["models with another key, which would all be one row", [{ pk: 1 }, { pk: 2 }], /a model without "id"/u],
  ])) {
    test(`load that returns ${what} fails with the reason, reported once`, async () => {
      const { harness, collection } = testCollection({ load: () => loaded });
      const errors = /** @type {string[]} */ ([]);
      harness.hub.on("error", ({ message }) => errors.push(message));
      collection.subscribe(() => {});
      await settle();
      await harness.link.accept();
      await harness.clock.pass(10_000);
      const { state, error } = collection.getSnapshot();
      assert.deepEqual([state, error?.code], ["failed", "load_failed"]);
      assert.match(String(error?.message), text);
      assert.equal(errors.length, 1);
    });
  }

  test("load that throws what is no text fails", async () => {
    const { harness, collection } = testCollection({ load: () => Promise.reject(Object.create(null)) });
    collection.subscribe(() => {});
    await settle();
    await harness.link.accept();
    assert.equal(collection.getSnapshot().error?.message, "The list was not loaded: no text");
  });

  test("a sort function that throws is reported, and the list shows what it showed", async () => {
    let isBroken = false;
    const sort = (/** @type {Model} */ a, /** @type {Model} */ b) => {
      if (isBroken) {
        throw new Error("no name");
      }
      return a.id - b.id;
    };
    const { harness, server, collection, push, shownIds } = testCollection({ sort });
    const errors = /** @type {string[]} */ ([]);
    harness.hub.on("error", ({ message }) => errors.push(message));
    server.models = [{ id: 2, v: 1 }, { id: 1, v: 1 }];
    collection.subscribe(() => {});
    await settle();
    await harness.link.accept();
    isBroken = true;
    for (const id of [3, 4]) {
      push("created", { id }, 1);
      await harness.clock.pass(FRAME_MS);
    }
    assert.deepEqual([collection.getSnapshot().state, shownIds()], ["failed", [1, 2]]);
    assert.deepEqual(errors, ["The list was not sorted: no name"]);
    isBroken = false;
    collection.reload();
    await settle();
    assert.equal(collection.getSnapshot().state, "ready");
  });

  test("a sort function that throws from the start does not leave the list loading", async () => {
    const { harness, server, collection } = testCollection({ sort: () => assert.fail("always") });
    server.models = [{ id: 2, v: 1 }, { id: 1, v: 1 }];
    collection.subscribe(() => {});
    await settle();
    await harness.link.accept();
    assert.equal(collection.getSnapshot().state, "failed");
  });

  test("without load it is an error of the call", () => {
    const { harness } = testCollection();
    for (const options of /** @type {any[]} */ ([undefined, {}, { channel: "orders:all", load: [] }])) {
      const message = /^load is missing/u;
      assert.throws(() => harness.hub.collection("Order", options), { code: "bad_option", message });
    }
  });
});
