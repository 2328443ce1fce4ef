import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { delayMs } from "../src/core/backoff.js";
import { COME_BACK, comesBack } from "../src/core/codes.js";
import { Course, NEXT } from "../src/core/course.js";
import { isAfter, parseCursor } from "../src/core/cursor.js";
import { Listeners } from "../src/core/listeners.js";
import { checkChannel } from "../src/core/names.js";
import { Positions } from "../src/core/positions.js";

const ROOT = new URL("../../", import.meta.url);
const vectors = (name) => JSON.parse(readFileSync(new URL(`tests/vectors/${name}.json`, ROOT), "utf8"));

describe("cursor", () => {
  test("the vectors that Python is held to", () => {
    const { good, bad } = vectors("cursor");
    for (const { text, epoch, seq } of good) {
      assert.deepEqual(parseCursor(text), { epoch, seq });
    }
    for (const text of bad) {
      assert.equal(parseCursor(text), undefined, JSON.stringify(text));
    }
  });

  test("seqs are compared as numbers, also beyond 2^53", () => {
    assert.ok(isAfter("10", "9"));
    assert.ok(isAfter("9007199254740993", "9007199254740992"));
    assert.ok(!isAfter("9", "10"));
    assert.ok(!isAfter("7", "7"));
  });
});

test("channels: the vectors that Python is held to", () => {
  const { good, bad } = vectors("channels").channels;
  for (const name of good) {
    assert.equal(checkChannel(name), name);
  }
  for (const name of bad) {
    assert.throws(() => checkChannel(name), { code: "bad_channel" });
  }
});

describe("codes", () => {
  const rows = [...readFileSync(new URL("PROTOCOL.md", ROOT), "utf8").matchAll(/^\| `(\w+)` \| (4\d\d\d) \|/gmu)];

  test("those of PROTOCOL.md", () => {
    assert.ok(rows.length > 20);
    const back = rows.filter(([, , number]) => Number(number) <= 4499).map(([, name]) => name);
    assert.deepEqual([...COME_BACK].sort(), back.sort());
    for (const [, code, number] of rows) {
      assert.equal(comesBack({ number: Number(number) }), COME_BACK.has(code), code);
    }
  });

  test("a known code is stronger than how the connection was closed", () => {
    assert.equal(comesBack({ code: "disconnected", refused: true }), true);
    assert.equal(comesBack({ code: "of_the_future", refused: true }), false);
    assert.equal(comesBack({ code: "of_the_future", refused: false }), true);
    assert.equal(comesBack({ number: 1006 }), true);
    assert.equal(comesBack({}), true);
  });
});

describe("backoff", () => {
  test("is drawn after the cap, so that late attempts do not meet", () => {
    const late = Array.from({ length: 100 }, (_, index) => delayMs(40, () => index / 100));
    assert.equal(new Set(late).size, 100);
    assert.equal(Math.max(...late), 19_800);
    assert.equal(Math.min(...late), 0);
  });

  test("doubles until the cap", () => {
    assert.deepEqual([0, 1, 2, 3, 4, 5, 6, 100].map((attempt) => delayMs(attempt, () => 0.5)), [
      500, 1000, 2000, 4000, 8000, 10_000, 10_000, 10_000,
    ]);
  });
});

describe("course", () => {
  const both = /** @type {const} */ (["websocket", "polling"]);

  /** @param {readonly import("../src/core/course.js").Transport[]} transports */
  const begun = (transports = both) => {
    const course = new Course(transports, () => 0.5);
    course.begin();
    return course;
  };

  test("every state can be left, and nothing else is named", () => {
    const states = Object.keys(NEXT);
    for (const next of Object.values(NEXT)) {
      assert.ok(Object.values(next).every((state) => states.includes(state)));
      assert.ok(Object.keys(next).length > 0);
    }
  });

  test("failures add up until a connection was good for a while", () => {
    const course = begun();
    const delays = [];
    for (const livedMs of [0, 100, 100, 60_000, 0]) {
      course.ready(0);
      delays.push(course.lost({ code: "too_fast" }, livedMs));
      course.see("due");
    }
    assert.deepEqual(delays, [500, 1000, 2000, 500, 1000]);
  });

  test("a code that says so ends it, and the application may begin anew", () => {
    const course = begun();
    course.ready(0);
    assert.equal(course.lost({ code: "revoked", refused: true }, 10), undefined);
    assert.equal(course.state, "closed");
    assert.equal(course.see("wake"), false);
    assert.equal(course.begin(), true);
  });

  test("a network that swallows WebSockets is tried with polling next, and remembered", () => {
    const course = begun();
    assert.deepEqual(course.transports, ["websocket", "polling"]);
    course.lost({}, 8000);
    assert.deepEqual(course.transports, ["polling", "websocket"]);
    course.see("due");
    course.over("polling");
    course.ready(9000);
    course.lost({}, 60_000);
    assert.deepEqual(course.transports, ["polling", "websocket"]);
    course.over("websocket");
    assert.deepEqual(course.transports, ["websocket", "polling"]);
  });

  test("a hub that says why does not change the order", () => {
    const course = begun();
    course.lost({ number: 4008 }, 10);
    assert.deepEqual(course.transports, ["websocket", "polling"]);
  });

  test("one transport alone is forced", () => {
    const course = begun(["polling"]);
    course.lost({}, 10);
    assert.deepEqual(course.transports, ["polling"]);
  });
});

describe("positions", () => {
  test("the highest cursor of the newest epoch", () => {
    const positions = new Positions(undefined);
    for (const cursor of ["a.5", "a.12", "a.9", "b.1", "b.1"]) {
      positions.remember(cursor);
    }
    assert.equal(positions.cursor, "b.1");
    positions.remember(7);
    assert.equal(positions.cursor, "b.1");
  });

  test("a repetition is one by its own channel's seq", () => {
    const positions = new Positions(undefined);
    assert.deepEqual(
      [
        ["x:1", "a.5"],
        ["x:2", "a.3"],
        ["x:1", "a.5"],
        ["x:1", "a.4"],
        ["x:2", "a.4"],
        ["x:1", "b.1"],
      ].map(([channel, cursor]) => positions.take(channel, cursor)),
      [true, true, false, false, true, true],
    );
  });

  test("a cursor of a form to come is kept as it is", () => {
    const positions = new Positions("a.5");
    assert.equal(positions.take("x:1", "v2!a=5,b=7"), true);
    assert.equal(positions.cursor, "v2!a=5,b=7");
    assert.equal(positions.take("x:1", "v2!a=6,b=7"), true);
    assert.equal(positions.cursor, "v2!a=6,b=7");
  });
});

describe("listeners", () => {
  test("end themselves, once, and may be the same function twice", () => {
    const listeners = new Listeners();
    const got = [];
    const tell = (/** @type {string} */ value) => got.push(value);
    const off = listeners.on("a", tell);
    listeners.on("a", tell);
    listeners.emit("a", 1);
    off();
    off();
    listeners.emit("a", 2);
    assert.deepEqual(got, [1, 1, 2]);
    assert.equal(listeners.size, 1);
  });

  test("names of Object's prototype are names", () => {
    const listeners = new Listeners();
    const got = [];
    for (const name of ["__proto__", "constructor", "toString"]) {
      listeners.emit(name, 0);
      listeners.on(name, () => got.push(name));
      listeners.emit(name, 1);
    }
    assert.deepEqual(got, ["__proto__", "constructor", "toString"]);
  });

  test("who ends another's listening, or adds one, meanwhile", () => {
    const listeners = new Listeners();
    const got = [];
    let off = () => {};
    listeners.on("a", () => {
      off();
      listeners.on("a", () => got.push("new"));
    });
    off = listeners.on("a", () => got.push("old"));
    listeners.emit("a");
    assert.deepEqual(got, ["old"]);
  });
});
