import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { request, together, welcome } from "../src/tabs/join.js";
import { lower } from "../src/tabs/lower.js";

const nothing = { channels: new Set(), presence: new Set() };

/** @param {Partial<import("../src/tabs/join.js").Join>} given */
function join(given) {
  return { id: "i", first: true, channels: [], presence: [], since: undefined, answer: () => {}, ...given };
}

test("the lower of two cursors, place by place", () => {
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
    assert.equal(lower(a, b), expected, `${a} ${b}`);
    assert.equal(lower(b, a) === undefined, expected === undefined);
  }
});

describe("what goes into one request", () => {
  test("those who recover from the same sequences, before all others", () => {
    const [fresh, one, other, two] = [{}, { since: "e.5" }, { since: "d.9" }, { since: "e.3" }].map(join);
    assert.deepEqual(together([fresh, one, other, two]), [one, two]);
    assert.deepEqual(together([other, fresh]), [other]);
    assert.deepEqual(together([fresh]), [fresh]);
    assert.deepEqual(together([]), []);
  });

  test("it begins where all can go on, those who have the channel already as well", () => {
    const joins = [join({ channels: ["a:1"], since: "e.7" }), join({ channels: ["a:2"], since: "e.5" })];
    const has = { channels: new Set(["a:1"]), presence: new Set(["a:1", "b:1"]) };
    assert.deepEqual(request(joins, nothing, undefined), { channels: ["a:1", "a:2"], presence: [], since: "e.5" });
    assert.equal(request(joins, has, "e.9").since, "e.5");
    assert.equal(request(joins, has, "e.4").since, "e.4");
    // And without ending the joins and leaves that somebody gets.
    assert.deepEqual(request(joins, has, "e.9").presence, ["a:1"]);
  });

  test("of another epoch only what nobody has; without a cursor as well", () => {
    const has = { channels: new Set(["a:1"]), presence: new Set(["a:1"]) };
    const wanted = { channels: ["a:1", "a:2"], presence: ["a:1", "a:2"] };
    const missing = { channels: ["a:2"], presence: ["a:2"] };
    assert.deepEqual(request([join({ ...wanted, since: "d.7" })], has, "e.9"), { ...missing, since: "d.7" });
    assert.deepEqual(request([join(wanted)], has, "e.9"), { ...missing, since: undefined });
  });
});

test("who is let in is told at once what it missed, each channel in order and only where it is whole", () => {
  const say = (event, channel, seq) => ({ event, values: [seq, channel, `e.${seq}`] });
  const held = [
    say("x", "a:1", 9),
    say("x", "a:2", 8),
    { event: "tidings:gap", values: [{}] },
    say("x", "a:1", 7),
    say("tidings:join", "a:1", 10),
    say("tidings:join", "a:2", 10),
    say("x", "a:1", 9),
  ];
  const answers = {
    channels: { "a:1": { recovered: true }, "a:2": { recovered: false } },
    presence: { "a:2": { recovered: true } },
  };
  const told = welcome(join({ since: "e.6" }), answers, "e.10", held);
  assert.equal(told[0].values[0].cursor, "e.6");
  const seen = told.slice(1).map(({ event, values }) => [event, values[1], values[0]]);
  assert.deepEqual(seen, [
    ["x", "a:1", 7],
    ["tidings:gap", undefined, {}],
    ["x", "a:1", 9],
    ["tidings:join", "a:2", 10],
    ["x", "a:1", 9],
  ]);
  assert.deepEqual(welcome(join({}), answers, "e.10", held).map(({ values }) => values[0].cursor), ["e.10"]);
});
