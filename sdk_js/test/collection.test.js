import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { Rows, versionOf } from "../src/core/rows.js";
import { settle, TestPair } from "./pair.js";

/** @typedef {{id: number, v?: number, name?: string}} Model */

const rowsOf = () => new Rows((/** @type {Model} */ model) => model.id, (model) => model.v);

describe("rows", () => {
  test("an older version never takes the place of a newer one", () => {
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

  test("a load takes the place of everything except what is newer", () => {
    const rows = rowsOf();
    rows.load([{ id: 1, v: 1 }, { id: 2, v: 1 }, { id: 3, v: 1 }, { id: 4, v: 1 }]);
    rows.apply("updated", { id: 2, name: "newer than the load" }, 9);
    rows.apply("deleted", { id: 3 }, 9);
    rows.begin();
    rows.apply("created", { id: 5, name: "while loading" }, 1);
    rows.load([{ id: 2, v: 2 }, { id: 3, v: 2 }, { id: 1, v: 2 }]);
    assert.deepEqual(rows.models, [
      { id: 2, name: "newer than the load" },
      { id: 1, v: 2 },
      { id: 5, name: "while loading" },
    ]);
  });

  test("models without a version: what came while loading is newer", () => {
    const rows = rowsOf();
    rows.apply("updated", { id: 1, name: "before" }, 5);
    rows.apply("deleted", { id: 2 }, 5);
    rows.begin();
    rows.apply("updated", { id: 3, name: "during" }, 5);
    rows.apply("deleted", { id: 4 }, 5);
    rows.load([1, 2, 3, 4].map((id) => ({ id, name: "loaded" })));
    assert.deepEqual(rows.models.map(({ id, name }) => [id, name]), [[1, "loaded"], [2, "loaded"], [3, "during"]]);
  });

  test("models cannot be changed from outside, and deleted ones are forgotten in time", () => {
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

  test("a version may be a text, if the backend says so", () => {
    const rows = rowsOf();
    rows.apply("created", { id: 1 }, "2026-02");
    assert.equal(rows.apply("updated", { id: 1, name: "old" }, "2026-01"), false);
    assert.equal(rows.apply("updated", { id: 1, name: "new" }, "2026-03"), true);
  });

  test("versions: the vectors that Python is held to", () => {
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

/** A collection on a pair; `load` answers with `models` when it is told to. */
function listed(options = {}) {
  const pair = new TestPair();
  const server = { models: /** @type {Model[]} */ ([]), loads: 0, failing: false, wait: Promise.resolve() };
  const collection = pair.hub.collection("Order", {
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
    pair.link.say("updated_model", { class: of, model, op, version }, "orders:all", `e.${(push.seq += 1)}`);
  push.seq = 0;
  const ids = () => collection.getSnapshot().items.map((model) => model.id);
  return { pair, server, collection, push, ids };
}

describe("collection", () => {
  test("loads when it is subscribed, and follows", async () => {
    const { pair, server, collection, push, ids } = listed();
    server.models = [{ id: 1, v: 1 }, { id: 2, v: 1 }];
    const seen = [];
    collection.subscribe((snapshot) => seen.push([snapshot.state, snapshot.items.length]));
    await settle();
    assert.equal(server.loads, 0);
    await pair.link.accept();
    assert.deepEqual(ids(), [1, 2]);
    push("created", { id: 3 }, 1);
    push("updated", { id: 1, name: "b" }, 2);
    push("deleted", { id: 2 }, 2);
    push("created", { id: 9 }, 1, "Invoice");
    pair.link.say("other", { class: "Order", model: { id: 8 }, op: "created", version: 1 }, "orders:all", "e.90");
    await settle();
    assert.deepEqual(collection.getSnapshot().items, [{ id: 1, name: "b" }, { id: 3 }]);
    // What came in one go was told in one go.
    assert.deepEqual(seen, [["loading", 0], ["ready", 2], ["ready", 2]]);
    assert.equal(server.loads, 1);
  });

  test("a snapshot is the same until something changes, and never changes itself", async () => {
    const { pair, server, collection, push } = listed();
    server.models = [{ id: 1, v: 5 }];
    collection.subscribe(() => {});
    await settle();
    await pair.link.accept();
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

  test("loads again on a gap, and not when everything was recovered", async () => {
    const { pair, server, collection, push, ids } = listed();
    collection.subscribe(() => {});
    await settle();
    await pair.link.accept();
    push("created", { id: 1 }, 1);
    await pair.link.lose({});
    await pair.clock.pass(1000);
    await pair.link.accept();
    assert.equal(server.loads, 1);
    server.models = [{ id: 4, v: 1 }];
    pair.link.say("tidings:gap", { cursor: "f.1", channels: { "orders:all": { recovered: false } } });
    await settle();
    assert.deepEqual([server.loads, ids()], [2, [4]]);
  });

  test("what comes while it loads is not lost, and an outdated load is ignored", async () => {
    const { pair, server, collection, push, ids } = listed();
    collection.subscribe(() => {});
    await settle();
    let answer = () => {};
    server.models = [{ id: 1, v: 1 }];
    server.wait = new Promise((resolve) => {
      answer = resolve;
    });
    await pair.link.accept();
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
    // 2 came before the second load began: it would be in it.
    assert.deepEqual(ids(), [1, 3, 4]);
    assert.equal(collection.getSnapshot().items[0].name, "newer");
    server.models = [];
    answer();
    await settle();
    assert.deepEqual(ids(), [1, 3, 4]);
    assert.equal(server.loads, 2);
  });

  test("what is to be loaded several times at once is loaded once", async () => {
    const { pair, server, collection } = listed();
    collection.subscribe(() => {});
    await settle();
    await pair.link.accept();
    collection.reload();
    collection.reload();
    await settle();
    assert.equal(server.loads, 2);
  });

  test("a load that fails is told, and tried again", async () => {
    const { pair, server, collection, push, ids } = listed();
    server.failing = true;
    collection.subscribe(() => {});
    await settle();
    await pair.link.accept();
    const { state, error } = collection.getSnapshot();
    assert.equal(state, "failed");
    assert.ok(error instanceof Error && error.message === "502");
    push("created", { id: 7 }, 1);
    await settle();
    assert.deepEqual(ids(), [7]);
    server.failing = false;
    server.models = [{ id: 7, v: 1 }, { id: 8, v: 1 }];
    await pair.clock.pass(1000);
    const after = collection.getSnapshot();
    assert.deepEqual([after.state, after.error, ids()], ["ready", undefined, [7, 8]]);
  });

  test("without a hub the list is shown all the same, and loaded again once subscribed", async () => {
    const { pair, server, collection } = listed();
    collection.subscribe(() => {});
    await pair.clock.pass(2000);
    assert.deepEqual([server.loads, collection.getSnapshot().state], [1, "ready"]);
    await pair.link.accept();
    assert.equal(server.loads, 2);
  });

  test("works while somebody is subscribed", async () => {
    const { pair, server, collection } = listed();
    const off = collection.subscribe(() => {});
    await settle();
    await pair.link.accept();
    off();
    const again = collection.subscribe(() => {});
    await pair.clock.pass(0);
    assert.deepEqual([server.loads, pair.link.asked], [1, []]);
    again();
    await pair.clock.pass(0);
    await pair.clock.pass(0);
    assert.deepEqual(pair.link.next("tidings:unsubscribe").body, { channels: ["orders:all"] });
    collection.reload();
    assert.equal(server.loads, 1);
    collection.subscribe(() => {});
    await pair.clock.pass(0);
    await pair.link.grant();
    assert.equal(server.loads, 2);
  });

  test("sorted, and by another key", async () => {
    const { pair, server, collection } = listed({
      key: "sku",
      sort: (/** @type {{sku: string}} */ a, /** @type {{sku: string}} */ b) => a.sku.localeCompare(b.sku),
    });
    server.models = /** @type {any} */ ([{ sku: "b" }, { sku: "a" }]);
    collection.subscribe(() => {});
    await settle();
    await pair.link.accept();
    assert.deepEqual(collection.getSnapshot().items, [{ sku: "a" }, { sku: "b" }]);
  });
});
