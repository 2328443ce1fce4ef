import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { connect } from "../src/index.js";

// As in a browser: `connect` connects at once.
Object.assign(globalThis, { WorkerGlobalScope: class {} });

/** @type {import("../src/index.js").Hub[]} */
const hubs = [];

afterEach(() => {
  hubs.splice(0).forEach((hub) => hub.close());
});

/**
 * @param {import("../src/options.js").HotModule} [hot]
 * @param {string} [url]
 */
function connectFrom(hot, url = "http://127.0.0.1:9/") {
  const hub = connect(url, { hot });
  hubs.push(hub);
  return hub;
}

test("Vite keeps the data of a replaced module, and calls no dispose of one that accepts no update", () => {
  const data = {};
  const first = connectFrom({ data, dispose: () => {} });
  const other = connectFrom({ data, dispose: () => {} }, "http://127.0.0.1:9/other");
  const second = connectFrom({ data, dispose: () => {} });
  assert.deepEqual([first.state, other.state, second.state], ["closed", "connecting", "connecting"]);
});

test("webpack calls dispose of a replaced module, whose data is undefined at first", () => {
  const callbacks = [];
  const hub = connectFrom({ data: undefined, dispose: (callback) => callbacks.push(callback) });
  callbacks.forEach((callback) => callback());
  assert.equal(hub.state, "closed");
});

test("without a development server, each call has its own connection", () => {
  const both = [connectFrom(), connectFrom(undefined)];
  assert.deepEqual(both.map(({ state }) => state), ["connecting", "connecting"]);
});
