import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { Rows, versionOf } from "../src/core/rows.js";
import { SessionHarness, settle } from "./session_harness.js";

/** @typedef {{id: number, v?: number, name?: string}} Model */

const rowsOf = () => new Rows((/** @type {Model} */ model) => model.id, (model) => model.v);

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
    assert.equal(rows.apply("created", { id: 1, name: "again" }, 6), true);
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

  test("models are frozen, and only the latest deleted versions are kept", () => {
    const rows = rowsOf();
    rows.apply("created", { id: 1 }, 1);
    assert.throws(() => {
      rows.models[0].name = "x";
    }, TypeError);
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
    for (const { model, version } of good) {
      assert.equal(versionOf(model), version, JSON.stringify(model));
    }
    for (const model of [{}, { version: "1" }, { version: 1.5 }, { updated_at: "yesterday" }, { updated_at: null }]) {
      assert.equal(versionOf(model), undefined, JSON.stringify(model));
    }
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
    await settle();
    assert.deepEqual(collection.getSnapshot().items, [{ id: 1, name: "b" }, { id: 3 }]);
    // Pushes that arrive together cause one snapshot.
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
    await settle();
    assert.equal(getSnapshot(), before);
    push("updated", { id: 1, name: "new" }, 6);
    await settle();
    assert.notEqual(getSnapshot(), before);
    assert.deepEqual(before.items, [{ id: 1, v: 5 }]);
    assert.ok(Object.isFrozen(before) && Object.isFrozen(before.items) && Object.isFrozen(before.items[0]));
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
    await settle();
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
    assert.ok(error instanceof Error && error.message === "502");
    push("created", { id: 7 }, 1);
    await settle();
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
});
