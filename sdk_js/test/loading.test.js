import assert from "node:assert/strict";
import { register } from "node:module";
import { test } from "node:test";
import { settle, TestPair } from "./pair.js";

// Parts that are loaded on first use do not come at first, as where the network is away.
const HOOKS = `
  const left = new Map([["./attendance.js", 2], ["./core/rows.js", 2]]);
  export async function resolve(specifier, context, next) {
    const more = left.get(specifier) ?? 0;
    left.set(specifier, more - 1);
    if (more > 0) {
      throw new Error("offline");
    }
    return next(specifier, context);
  }
`;
register(`data:text/javascript,${encodeURIComponent(HOOKS)}`);

/** Until a part has come, or has not: that takes real time. */
async function until(isSo) {
  while (!isSo()) {
    await settle();
  }
}

test("presence: told, and tried again until it is there", async () => {
  const pair = new TestPair();
  const errors = [];
  pair.hub.on("error", ({ code, cause }) => errors.push([code, /** @type {Error} */ (cause).message]));
  const presence = pair.hub.channel("room:1").presence();
  presence.subscribe(() => {});
  presence.on("join", () => {});
  await until(() => errors.length === 1);
  await pair.link.accept();
  assert.equal(presence.getSnapshot().state, "loading");
  await pair.clock.pass(5000);
  await until(() => errors.length === 2);
  await pair.clock.pass(5000);
  await until(() => pair.session.attendance !== undefined);
  await pair.clock.pass(0);
  assert.deepEqual(errors, [["not_loaded", "offline"], ["not_loaded", "offline"]]);
  assert.deepEqual(pair.link.next("tidings:subscribe").body, { presence: ["room:1"] });
});

test("a collection: its first load fails, and is tried again", async () => {
  const pair = new TestPair();
  const load = () => [{ id: 1, version: 1 }];
  const orders = pair.hub.collection("Order", { channel: "orders:all", load });
  const states = [];
  orders.subscribe(({ state, error }) => states.push([state, /** @type {Error} */ (error)?.message]));
  await settle();
  await pair.link.accept();
  await until(() => states.length === 2);
  await pair.clock.pass(20_000);
  await until(() => states.length === 3);
  assert.deepEqual(states, [["loading", undefined], ["failed", "offline"], ["ready", undefined]]);
  assert.deepEqual(orders.getSnapshot().items, [{ id: 1, version: 1 }]);
});
