// A browser in memory: tabs of one origin, each with its own session, and a hub.
import { Hub } from "../src/hub.js";
import { LOADED_PARTS } from "../src/parts.js";
import { Session } from "../src/session.js";
import { Tab } from "../src/tabs/tab.js";
import { MemoryHub } from "./memory_hub.js";
import { TestClock } from "./session_harness.js";
import { TestOrigin, TestTabApi } from "./tab_api.js";

/**
 * A reproducible random generator.
 *
 * @param {number} seed
 * @returns {() => number} in [0, 1)
 */
export function seededRandom(seed) {
  let state = seed;
  return () => {
    // Mulberry32, by Tommy Ettinger, public domain.
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** One tab of a `TestBrowser`. */
export class TestTab {
  /** @type {import("../src/environment.js").SavedState | undefined} */
  saved;
  wake = () => {};
  leave = () => {};

  /**
   * @param {TestBrowser} browser
   * @param {import("../src/options.js").Options} options
   * @param {import("../src/environment.js").SavedState} saved the state of the page before this one
   */
  constructor({ clock, origin, server, random }, options, saved) {
    this.api = new TestTabApi(origin);
    const isAlive = () => this.api.isAlive;
    /** @type {Set<ReturnType<MemoryHub["open"]>>} */
    this.links = new Set();
    const environment = {
      openLink: (transports, listener) => {
        const onEvent = (/** @type {[string, unknown[]]} */ ...args) => this.api.hangs || listener.onEvent(...args);
        const link = server.open(transports, { ...listener, onEvent });
        this.links.add(link);
        if (!isAlive()) {
          link.close();
        }
        return link;
      },
      parts: LOADED_PARTS,
      nowMs: () => clock.nowMs,
      setTimer: (callback, delayMs) => clock.setTimer(() => isAlive() && !this.api.hangs && callback(), delayMs),
      random,
      watch: (wake, leave) => {
        Object.assign(this, { wake, leave });
        return () => {};
      },
      saved,
      save: (state) => {
        this.saved = state;
      },
    };
    this.tab = new Tab(this.api, "t", environment, options.getToken);
    const { openLink, watch, getToken } = this.tab;
    const tabOptions = { ...options, ...(options.getToken && { getToken }) };
    this.session = new Session({ ...environment, openLink, watch }, tabOptions);
    this.hub = new Hub(this.session);
    this.session.start();
  }

  /** The tab ends without a message. */
  kill() {
    this.api.kill();
    this.links.forEach((link) => link.close());
  }
}

/** A browser and a hub. */
export class TestBrowser {
  clock = new TestClock();

  /**
   * @param {() => number} [random]
   * @param {import("./memory_hub.js").HubOptions} [options]
   */
  constructor(random = () => 0.5, options = {}) {
    const delayMs = options.delayMs ?? (() => 0);
    this.random = random;
    this.origin = new TestOrigin(this.clock, delayMs);
    this.server = new MemoryHub(this.clock, { ...options, delayMs });
  }

  /**
   * @param {import("../src/options.js").Options} [options]
   * @param {import("../src/environment.js").SavedState} [saved]
   */
  open(options = {}, saved = { channels: [] }) {
    return new TestTab(this, options, saved);
  }
}
