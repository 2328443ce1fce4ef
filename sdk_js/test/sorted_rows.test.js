import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Rows } from "../src/core/rows.js";
import { seededRandom } from "./browser.js";
import { SessionHarness, settle } from "./session_harness.js";

/** @typedef {{id: number, rank: number}} Model */

const FRAME_MS = 16;
const MANY = 20_000;

/**
 * @param {(a: Model, b: Model) => number} compare
 * @returns {Rows<Model>}
 */
const rowsSortedBy = (compare) => new Rows("Order", (model) => model.id, () => undefined, compare);
const byRank = (/** @type {Model} */ a, /** @type {Model} */ b) => a.rank - b.rank;
const manyModels = () => Array.from({ length: MANY }, (_, id) => ({ id, rank: (id * 7919) % MANY }));

describe("sorted rows", () => {
  test("random changes: always the order of a stable sort", () => {
    const random = seededRandom(7);
    const below = (/** @type {number} */ max) => Math.floor(random() * max);
    const rows = rowsSortedBy(byRank);
    const unsorted = new Rows("Order", (/** @type {Model} */ model) => model.id, () => undefined);
    for (let round = 0; round < 400; round += 1) {
      if (round % 100 === 0) {
        const models = Array.from({ length: 60 }, (_, id) => ({ id, rank: below(9) }));
        [rows, unsorted].forEach((each) => each.load(models));
      }
      const ids = new Set(Array.from({ length: below(12) }, () => below(80)));
      for (const id of ids) {
        const op = random() < 0.3 ? "deleted" : "updated";
        const model = { id, rank: below(9) };
        [rows, unsorted].forEach((each) => each.apply(op, model, round, "field:round"));
      }
      assert.deepEqual(rows.models, unsorted.models.sort(byRank));
    }
  });

  test("one change of 20,000 rows takes some 20 comparisons", () => {
    let comparisons = 0;
    const rows = rowsSortedBy((a, b) => {
      comparisons += 1;
      return byRank(a, b);
    });
    rows.load(manyModels());
    assert.equal(rows.models[5].rank, 5);
    comparisons = 0;
    rows.apply("updated", { id: 7, rank: -1 }, 2);
    rows.apply("created", { id: MANY, rank: MANY / 2 + 0.5 }, 1);
    rows.apply("deleted", { id: 9, rank: 0 }, 2);
    const { models } = rows;
    assert.deepEqual([models[0].id, models.length], [7, MANY]);
    assert.ok(comparisons < 40, `${comparisons}`);
  });

  test("no row is lost or doubled, whatever the comparison function returns", () => {
    const random = seededRandom(3);
    const rows = rowsSortedBy(() => (random() < 0.2 ? Number.NaN : random() - 0.5));
    rows.load(Array.from({ length: 100 }, (_, id) => ({ id, rank: 0 })));
    for (let id = 50; id < 150; id += 1) {
      rows.apply("updated", { id, rank: 1 }, 2);
      const ids = rows.models.map((model) => model.id).sort((a, b) => a - b);
      assert.deepEqual(ids, Array.from({ length: Math.max(100, id + 1) }, (_, index) => index));
    }
  });

  test("after a comparison that throws, the next one sorts all rows", () => {
    const rows = rowsSortedBy((a, b) => {
      if (Number.isNaN(a.rank) || Number.isNaN(b.rank)) {
        throw new TypeError("no rank");
      }
      return byRank(a, b);
    });
    rows.load(Array.from({ length: 100 }, (_, id) => ({ id, rank: 100 - id })));
    assert.equal(rows.models[0].id, 99);
    rows.apply("updated", { id: 50, rank: Number.NaN }, 2);
    rows.apply("updated", { id: 1, rank: -1 }, 2);
    assert.throws(() => rows.models, TypeError);
    rows.apply("updated", { id: 50, rank: 101 }, 3);
    const ids = rows.models.map((model) => model.id);
    assert.deepEqual([ids.length, ids[0], ids[99]], [100, 1, 50]);
  });
});

/** A sorted collection of 20,000 models on a harness, and what it did since it was loaded. */
async function manyOrders() {
  const harness = new SessionHarness();
  const counts = { comparisons: 0, snapshots: 0 };
  const loaded = manyModels();
  const orders = harness.hub.collection("Order", {
    channel: "orders:all",
    load: () => loaded,
    sort: (/** @type {Model} */ a, /** @type {Model} */ b) => {
      counts.comparisons += 1;
      return byRank(a, b);
    },
  });
  orders.subscribe(() => {
    counts.snapshots += 1;
  });
  await settle();
  await harness.link.accept();
  assert.equal(orders.getSnapshot().state, "ready");
  Object.assign(counts, { comparisons: 0, snapshots: 0 });
  return { harness, orders, counts, loaded };
}

describe("a sorted collection", () => {
  test("the publications of a frame cause one snapshot, without sorting all rows again", async () => {
    const { harness, orders, counts } = await manyOrders();
    for (let number = 1; number <= 100; number += 1) {
      const model = { id: number * 3, rank: -number };
      const push = { class: "Order", op: "updated", model, version: 1, version_kind: "given" };
      // As over a WebSocket: each message is an event of its own.
      await Promise.resolve();
      harness.link.emit("updated_model", push, "orders:all", `e.${number}`);
    }
    assert.equal(counts.snapshots, 0);
    await harness.clock.pass(FRAME_MS);
    const { items } = orders.getSnapshot();
    assert.deepEqual([counts.snapshots, items.length, items[0].id, items[99].id], [1, MANY, 300, 3]);
    assert.ok(counts.comparisons < 100 * 20, `${counts.comparisons}`);
    await harness.clock.pass(1000);
    assert.equal(counts.snapshots, 1);
  });

  test("the application may change its own objects: only the snapshot is frozen", async () => {
    const { harness, orders, loaded } = await manyOrders();
    const pushed = { id: 3, rank: -1 };
    const push = { class: "Order", op: "updated", model: pushed, version: 1 };
    harness.link.emit("updated_model", push, "orders:all", "e.1");
    await harness.clock.pass(FRAME_MS);
    const { items } = orders.getSnapshot();
    assert.equal(items[0], pushed);
    assert.ok(Object.isFrozen(items));
    for (const object of [loaded, loaded[0], pushed]) {
      assert.ok(Object.isExtensible(object) && !Object.isFrozen(object));
    }
    // A change of the property that is sorted by loses no row.
    loaded.forEach((model) => {
      model.rank = -model.rank;
    });
    for (const id of [4, 5, 6]) {
      const data = { class: "Order", op: "updated", model: { id, rank: id }, version: 1 };
      harness.link.emit("updated_model", data, "orders:all", `e.${id}`);
    }
    await harness.clock.pass(FRAME_MS);
    assert.equal(new Set(orders.getSnapshot().items.map(({ id }) => id)).size, MANY);
  });
});
