import assert from "node:assert/strict";
import { register } from "node:module";
import { test } from "node:test";
import { SessionHarness, settle } from "./session_harness.js";

// Modules that are loaded on first use cannot be loaded at first, as without a network.
const HOOKS = `
  const failuresLeft = new Map([["./presence_client.js", 2], ["./core/rows.js", 2]]);
  export async function resolve(specifier, context, next) {
    const failures = failuresLeft.get(specifier) ?? 0;
    failuresLeft.set(specifier, failures - 1);
    if (failures > 0) {
      throw new Error("offline");
    }
    return next(specifier, context);
  }
`;
register(`data:text/javascript,${encodeURIComponent(HOOKS)}`);

/** Waits for an import to succeed or fail, which takes real time. */
async function waitUntil(condition) {
  while (!condition()) {
    await settle();
  }
}

test("presence: a failed import is reported and retried", async () => {
  const harness = new SessionHarness();
  const errors = [];
  harness.hub.on("error", ({ code, cause }) => errors.push([code, /** @type {Error} */ (cause).message]));
  const presence = harness.hub.channel("room:1").presence();
  presence.subscribe(() => {});
  presence.on("join", () => {});
  await waitUntil(() => errors.length === 1);
  await harness.link.accept();
  assert.equal(presence.getSnapshot().state, "loading");
  await harness.clock.pass(5000);
  await waitUntil(() => errors.length === 2);
  await harness.clock.pass(5000);
  await waitUntil(() => harness.session.presenceClient !== undefined);
  await harness.clock.pass(0);
  assert.deepEqual(errors, [["not_loaded", "offline"], ["not_loaded", "offline"]]);
  assert.deepEqual(harness.link.nextRequest("tidings:subscribe").body, { presence: ["room:1"] });
});

test("a collection: a failed import fails the first load, which is retried", async () => {
  const harness = new SessionHarness();
  const load = () => [{ id: 1, version: 1 }];
  const orders = harness.hub.collection("Order", { channel: "orders:all", load });
  const states = [];
  orders.subscribe(({ state, error }) => states.push([state, error?.message]));
  await settle();
  await harness.link.accept();
  await waitUntil(() => states.length === 2);
  await harness.clock.pass(20_000);
  await waitUntil(() => states.length === 3);
  const failed = ["failed", "The list was not loaded: offline"];
  assert.deepEqual(states, [["loading", undefined], failed, ["ready", undefined]]);
  assert.deepEqual(orders.getSnapshot().items, [{ id: 1, version: 1 }]);
});
