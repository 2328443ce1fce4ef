import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { minCursor } from "../src/core/cursor.js";
import { compatible, mergeRequests, readyEvents } from "../src/tabs/join_request.js";

const none = { channels: new Set(), presence: new Set() };

/** @param {Partial<import("../src/tabs/join_request.js").JoinRequest>} values */
function join(values) {
  return { id: "i", isConnect: true, channels: [], presence: [], since: undefined, respond: () => {}, ...values };
}

test("minCursor takes the lower seq for each epoch", () => {
  for (const [a, b, expected] of [
    ["e.5", "e.10", "e.5"],
    ["e.10", "e.9", "e.9"],
    ["e.5~f.7", "f.6~e.9", "e.5~f.6"],
    ["e.5", "f.5", undefined],
    ["e.5", "e.5~f.6", undefined],
    ["e.5", undefined, undefined],
    ["e.5", "of a later protocol", undefined],
    [undefined, undefined, undefined],
  ]) {
    assert.equal(minCursor(a, b), expected, `${a} ${b}`);
    assert.equal(minCursor(b, a) === undefined, expected === undefined);
  }
});

describe("merging requests", () => {
  test("requests with comparable cursors come first", () => {
    const [fresh, first, otherEpoch, second] = [{}, { since: "e.5" }, { since: "d.9" }, { since: "e.3" }].map(join);
    assert.deepEqual(compatible([fresh, first, otherEpoch, second]), [first, second]);
    assert.deepEqual(compatible([otherEpoch, fresh]), [otherEpoch]);
    assert.deepEqual(compatible([fresh]), [fresh]);
    assert.deepEqual(compatible([]), []);
  });

  test("the merged request starts at the lowest cursor, including that of the connection", () => {
    const joins = [join({ channels: ["a:1"], since: "e.7" }), join({ channels: ["a:2"], since: "e.5" })];
    const granted = { channels: new Set(["a:1"]), presence: new Set(["a:1", "b:1"]) };
    assert.deepEqual(mergeRequests(joins, none, undefined), { channels: ["a:1", "a:2"], presence: [], since: "e.5" });
    assert.equal(mergeRequests(joins, granted, "e.9").since, "e.5");
    assert.equal(mergeRequests(joins, granted, "e.4").since, "e.4");
    // The join and leave events of other links continue.
    assert.deepEqual(mergeRequests(joins, granted, "e.9").presence, ["a:1"]);
  });

  test("without a comparable cursor only names that are not granted yet are requested", () => {
    const granted = { channels: new Set(["a:1"]), presence: new Set(["a:1"]) };
    const names = { channels: ["a:1", "a:2"], presence: ["a:1", "a:2"] };
    const missing = { channels: ["a:2"], presence: ["a:2"] };
    assert.deepEqual(mergeRequests([join({ ...names, since: "d.7" })], granted, "e.9"), { ...missing, since: "d.7" });
    assert.deepEqual(mergeRequests([join(names)], granted, "e.9"), { ...missing, since: undefined });
  });
});

test("a new link receives the missed events of recovered channels, in order per channel", () => {
  const hubEvent = (event, channel, seq) => ({ event, values: [seq, channel, `e.${seq}`] });
  const heldEvents = [
    hubEvent("x", "a:1", 9),
    hubEvent("x", "a:2", 8),
    { event: "tidings:gap", values: [{}] },
    hubEvent("x", "a:1", 7),
    hubEvent("tidings:join", "a:1", 10),
    hubEvent("tidings:join", "a:2", 10),
    hubEvent("x", "a:1", 9),
  ];
  const results = {
    channels: { "a:1": { recovered: true }, "a:2": { recovered: false } },
    presence: { "a:2": { recovered: true } },
  };
  const events = readyEvents(join({ since: "e.6" }), results, "e.10", heldEvents);
  assert.equal(events[0].values[0].cursor, "e.6");
  const missed = events.slice(1).map(({ event, values }) => [event, values[1], values[0]]);
  assert.deepEqual(missed, [
    ["x", "a:1", 7],
    ["tidings:gap", undefined, {}],
    ["x", "a:1", 9],
    ["tidings:join", "a:2", 10],
    ["x", "a:1", 9],
  ]);
  assert.deepEqual(readyEvents(join({}), results, "e.10", heldEvents).map(({ values }) => values[0].cursor), ["e.10"]);
});
