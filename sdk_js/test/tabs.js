// Tabs of one page on one origin, each with a session of its own, around a hub in memory.
import { Hub } from "../src/hub.js";
import { Session } from "../src/session.js";
import { Tab } from "../src/tabs/tab.js";
import { TestCommons, TestOrigin } from "./commons.js";
import { MemoryHub } from "./memory_hub.js";
import { TestClock } from "./pair.js";

/**
 * Chance that a test can have again.
 *
 * @param {number} seed
 * @returns {() => number} in [0, 1)
 */
export function chance(seed) {
  let state = seed;
  return () => {
    // Mulberry32, by Tommy Ettinger, public domain.
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** One tab of it. */
export class TestTab {
  /** @type {import("../src/world.js").Kept | undefined} */
  kept;
  wake = () => {};
  leave = () => {};

  /**
   * @param {TestBrowser} browser
   * @param {import("../src/hub.js").Options} options
   * @param {import("../src/world.js").Kept} kept
   */
  constructor({ clock, origin, server, random }, options, kept) {
    this.commons = new TestCommons(origin);
    const isAlive = () => this.commons.isAlive;
    /** @type {Set<ReturnType<MemoryHub["open"]>>} */
    this.links = new Set();
    const world = {
      open: (transports, listener) => {
        const event = (/** @type {[string, unknown[]]} */ ...said) => this.commons.hangs || listener.event(...said);
        const link = server.open(transports, { ...listener, event });
        this.links.add(link);
        if (!isAlive()) {
          link.close();
        }
        return link;
      },
      nowMs: () => clock.nowMs,
      after: (tell, inMs) => clock.after(() => isAlive() && !this.commons.hangs && tell(), inMs),
      random,
      watch: (wake, leave) => {
        Object.assign(this, { wake, leave });
        return () => {};
      },
      kept,
      keep: (what) => {
        this.kept = what;
      },
    };
    this.tab = new Tab(this.commons, "t", world, options.getToken);
    const { open, watch, getToken } = this.tab;
    this.session = new Session({ ...world, open, watch }, { ...options, ...(options.getToken && { getToken }) });
    this.hub = new Hub(this.session);
    this.session.begin();
  }

  /** The tab is gone, without a word. */
  kill() {
    this.commons.kill();
    this.links.forEach((link) => link.close());
  }
}

/** A browser with a hub. */
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
   * @param {import("../src/hub.js").Options} [options]
   * @param {import("../src/world.js").Kept} [kept]
   */
  open(options = {}, kept = { channels: [] }) {
    return new TestTab(this, options, kept);
  }
}
