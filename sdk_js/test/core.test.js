import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { delayMs } from "../src/core/backoff.js";
import { isRetryable, RETRYABLE_CODES } from "../src/core/codes.js";
import { isAfter, parseCursor } from "../src/core/cursor.js";
import { Listeners } from "../src/core/listeners.js";
import { checkChannel } from "../src/core/names.js";
import { Positions } from "../src/core/positions.js";
import { ReconnectState, TRANSITIONS } from "../src/core/reconnect.js";

const ROOT = new URL("../../", import.meta.url);
const vectors = (name) => JSON.parse(readFileSync(new URL(`tests/vectors/${name}.json`, ROOT), "utf8"));

describe("cursor", () => {
  test("cursors match the vectors shared with Python", () => {
    const { good, bad } = vectors("cursor");
    for (const { text, epoch, seq } of good) {
      assert.deepEqual(parseCursor(text), { epoch, seq });
    }
    for (const text of bad) {
      assert.equal(parseCursor(text), undefined, JSON.stringify(text));
    }
  });

  test("seqs are compared as numbers, also above 2^53", () => {
    assert.ok(isAfter("10", "9"));
    assert.ok(isAfter("9007199254740993", "9007199254740992"));
    assert.ok(!isAfter("9", "10"));
    assert.ok(!isAfter("7", "7"));
  });
});

test("channel names match the vectors shared with Python", () => {
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

  test("retryable codes match PROTOCOL.md", () => {
    assert.ok(rows.length > 20);
    const back = rows.filter(([, , number]) => Number(number) <= 4499).map(([, name]) => name);
    assert.deepEqual([...RETRYABLE_CODES].sort(), back.sort());
    for (const [, code, number] of rows) {
      assert.equal(isRetryable({ number: Number(number) }), RETRYABLE_CODES.has(code), code);
    }
  });

  test("a known code takes precedence over the kind of close", () => {
    assert.equal(isRetryable({ code: "disconnected", refused: true }), true);
    assert.equal(isRetryable({ code: "of_the_future", refused: true }), false);
    assert.equal(isRetryable({ code: "of_the_future", refused: false }), true);
    assert.equal(isRetryable({ number: 1006 }), true);
    assert.equal(isRetryable({}), true);
  });
});

describe("backoff", () => {
  test("jitter is applied after the cap, so late attempts are spread", () => {
    const delays = Array.from({ length: 100 }, (_, index) => delayMs(40, () => index / 100));
    assert.equal(new Set(delays).size, 100);
    assert.equal(Math.max(...delays), 19_800);
    assert.equal(Math.min(...delays), 0);
  });

  test("doubles until the cap", () => {
    assert.deepEqual([0, 1, 2, 3, 4, 5, 6, 100].map((attempt) => delayMs(attempt, () => 0.5)), [
      500, 1000, 2000, 4000, 8000, 10_000, 10_000, 10_000,
    ]);
  });
});

describe("reconnect state", () => {
  const bothTransports = /** @type {const} */ (["websocket", "polling"]);

  /** @param {readonly import("../src/core/reconnect.js").Transport[]} transports */
  const started = (transports = bothTransports) => {
    const state = new ReconnectState(transports, () => 0.5);
    state.start();
    return state;
  };

  test("every state has a transition, and only to known states", () => {
    const states = Object.keys(TRANSITIONS);
    for (const next of Object.values(TRANSITIONS)) {
      assert.ok(Object.values(next).every((state) => states.includes(state)));
      assert.ok(Object.keys(next).length > 0);
    }
  });

  test("the back-off grows until a connection is stable", () => {
    const state = started();
    const delays = [];
    for (const livedMs of [0, 100, 100, 60_000, 0]) {
      state.onReady(0);
      delays.push(state.onLost({ code: "too_fast" }, livedMs));
      state.apply("retry");
    }
    assert.deepEqual(delays, [500, 1000, 2000, 500, 1000]);
  });

  test("a final code closes the connection, and the application can start again", () => {
    const state = started();
    state.onReady(0);
    assert.equal(state.onLost({ code: "revoked", refused: true }, 10), undefined);
    assert.equal(state.state, "closed");
    assert.equal(state.apply("wake"), false);
    assert.equal(state.start(), true);
  });

  test("a network that drops WebSockets is tried with polling next, and this is remembered", () => {
    const state = started();
    assert.deepEqual(state.transports, ["websocket", "polling"]);
    state.onLost({}, 8000);
    assert.deepEqual(state.transports, ["polling", "websocket"]);
    state.apply("retry");
    state.onTransport("polling");
    state.onReady(9000);
    state.onLost({}, 60_000);
    assert.deepEqual(state.transports, ["polling", "websocket"]);
    state.onTransport("websocket");
    assert.deepEqual(state.transports, ["websocket", "polling"]);
  });

  test("a close with a reason keeps the order of transports", () => {
    const state = started();
    state.onLost({ number: 4008 }, 10);
    assert.deepEqual(state.transports, ["websocket", "polling"]);
  });

  test("a hub that received nothing is tried over the other transport next", () => {
    const state = started();
    state.onLost({ code: "connect_timeout", number: 4012 }, 12_500);
    assert.equal(state.state, "waiting");
    assert.deepEqual(state.transports, ["polling", "websocket"]);
  });

  test("a single transport is always used", () => {
    const state = started(["polling"]);
    state.onLost({}, 10);
    assert.deepEqual(state.transports, ["polling"]);
  });
});

describe("positions", () => {
  test("keeps the highest cursor of the newest epoch", () => {
    const positions = new Positions(undefined);
    for (const cursor of ["a.5", "a.12", "a.9", "b.1", "b.1"]) {
      positions.advance(cursor);
    }
    assert.equal(positions.cursor, "b.1");
    positions.advance(7);
    assert.equal(positions.cursor, "b.1");
  });

  test("detects a repetition by the seq of its channel", () => {
    const positions = new Positions(undefined);
    assert.deepEqual(
      [
        ["x:1", "a.5"],
        ["x:2", "a.3"],
        ["x:1", "a.5"],
        ["x:1", "a.4"],
        ["x:2", "a.4"],
        ["x:1", "b.1"],
      ].map(([channel, cursor]) => positions.accept(channel, cursor)),
      [true, true, false, false, true, true],
    );
  });

  test("keeps a cursor of a later protocol version unchanged", () => {
    const positions = new Positions("a.5");
    assert.equal(positions.accept("x:1", "v2!a=5,b=7"), true);
    assert.equal(positions.cursor, "v2!a=5,b=7");
    assert.equal(positions.accept("x:1", "v2!a=6,b=7"), true);
    assert.equal(positions.cursor, "v2!a=6,b=7");
  });
});

describe("listeners", () => {
  test("can be removed once, and can be the same function twice", () => {
    const listeners = new Listeners();
    const received = [];
    const listener = (/** @type {string} */ value) => received.push(value);
    const off = listeners.on("a", listener);
    listeners.on("a", listener);
    listeners.emit("a", 1);
    off();
    off();
    listeners.emit("a", 2);
    assert.deepEqual(received, [1, 1, 2]);
    assert.equal(listeners.size, 1);
  });

  test("event names can be names of Object.prototype", () => {
    const listeners = new Listeners();
    const received = [];
    for (const name of ["__proto__", "constructor", "toString"]) {
      listeners.emit(name, 0);
      listeners.on(name, () => received.push(name));
      listeners.emit(name, 1);
    }
    assert.deepEqual(received, ["__proto__", "constructor", "toString"]);
  });

  test("a listener can remove or add listeners during an emit", () => {
    const listeners = new Listeners();
    const received = [];
    let off = () => {};
    listeners.on("a", () => {
      off();
      listeners.on("a", () => received.push("new"));
    });
    off = listeners.on("a", () => received.push("old"));
    listeners.emit("a");
    assert.deepEqual(received, ["old"]);
  });
});
