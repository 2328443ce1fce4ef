// Tabs that come, go and die while publications come, held against the promise: every tab got every publication of its
// channels once and in order, or was told afterwards to load anew; and there was never more than one connection.
import assert from "node:assert/strict";
import { test } from "node:test";
import { chance, TestBrowser } from "./tabs.js";

const STORIES = 40;
const STEPS = 40;
const CHANNELS = ["a:1", "a:2", "b:1", "user:7"];

/** Who listens to one channel in one tab, from the first handler to the last: what it was told, and when. */
class Ear {
  /** @type {number[]} */
  seqs = [];
  gaps = 0;

  /**
   * @param {import("./tabs.js").TestTab} tab
   * @param {string} name
   * @param {() => number} tick
   * @param {Ear} [before] that of the page before this one in the same tab, if its past is known
   */
  constructor(tab, name, tick, before) {
    this.name = name;
    this.before = before;
    this.channel = tab.hub.channel(name);
    /** When its data was to be loaded the last time: what was published before is in it. */
    this.loadedAt = before?.loadedAt ?? Infinity;
    const load = () => {
      this.loadedAt = tick();
    };
    const see = (/** @type {string} */ state) => state === "subscribed" && this.loadedAt === Infinity && load();
    const offs = [
      this.channel.on("*", (data, { cursor }) => this.seqs.push(Number(cursor.split(".")[1]))),
      this.channel.on("tidings:gap", () => {
        this.gaps += 1;
        load();
      }),
      this.channel.on("tidings:state", see),
    ];
    see(this.channel.state);
    this.end = () => offs.forEach((off) => off());
  }

  /** @returns {number[]} what it got, over all pages */
  get all() {
    return [...(this.before?.all ?? []), ...this.seqs];
  }

  /** @param {{name: string, seq: number, at: number}[]} published */
  check(published) {
    assert.equal(this.channel.state, "subscribed");
    for (const [index, seq] of this.seqs.entries()) {
      assert.ok(index === 0 || seq > this.seqs[index - 1], `${this.name}: ${seq} after ${this.seqs[index - 1]}`);
    }
    const got = new Set(this.all);
    const missing = published.filter(({ name, seq, at }) => name === this.name && at > this.loadedAt && !got.has(seq));
    assert.deepEqual(missing, []);
  }
}

/** One story: what is done in it, and what came of it. */
class Story {
  /** @type {{name: string, seq: number, at: number}[]} */
  published = [];
  /** @type {Map<import("./tabs.js").TestTab, Map<string, Ear>>} */
  tabs = new Map();
  #ticks = 0;

  /**
   * @param {number} seed
   * @param {number} history
   */
  constructor(seed, history) {
    this.random = chance(seed);
    const delayMs = () => this.upTo(4) ** 2;
    this.browser = new TestBrowser(this.random, { delayMs, lagMs: () => this.upTo(4) * 15, history });
    this.open();
  }

  tick = () => (this.#ticks += 1);

  upTo(/** @type {number} */ end) {
    return Math.floor(this.random() * end);
  }

  get some() {
    return [...this.tabs.keys()][this.upTo(this.tabs.size)];
  }

  publish(name = CHANNELS[this.upTo(CHANNELS.length)]) {
    const at = this.tick();
    this.published.push({ name, seq: this.browser.server.publish(name, "e", at), at });
  }

  open() {
    if (this.tabs.size < 5) {
      const tab = this.browser.open();
      this.tabs.set(tab, new Map());
      this.listen(tab);
    }
  }

  /** Begins to listen, or ends it. */
  listen(tab = this.some) {
    const name = CHANNELS[this.upTo(CHANNELS.length)];
    const ears = this.tabs.get(tab);
    const ear = ears?.get(name);
    if (ear === undefined) {
      ears?.set(name, new Ear(tab, name, this.tick));
    } else if (this.random() < 0.3) {
      ear.end();
      ears?.delete(name);
    }
  }

  kill() {
    if (this.tabs.size > 1) {
      const tab = this.some;
      tab.kill();
      this.tabs.delete(tab);
    }
  }

  reload() {
    const tab = this.some;
    const ears = this.tabs.get(tab) ?? new Map();
    tab.leave();
    tab.kill();
    this.tabs.delete(tab);
    const next = this.browser.open({}, tab.kept);
    const renewed = [...ears].map(([name, ear]) => {
      const known = tab.kept?.channels.includes(name) ? ear : undefined;
      return /** @type {const} */ ([name, new Ear(next, name, this.tick, known)]);
    });
    this.tabs.set(next, new Map(renewed));
  }

  /** The page is put aside, and shown again. */
  leave() {
    const tab = this.some;
    tab.leave();
    this.browser.clock.after(() => tab.wake(), this.upTo(300));
  }

  close() {
    const tab = this.some;
    tab.hub.close();
    this.browser.clock.after(() => tab.commons.isAlive && tab.hub.connect(), this.upTo(300));
  }

  cut() {
    if (this.random() < 0.3) {
      this.browser.server.cut();
    }
  }

  async tell() {
    const acts = /** @type {const} */ (["open", "listen", "kill", "reload", "leave", "close", "cut"]);
    for (let step = 0; step < STEPS; step += 1) {
      if (this.random() < 0.5) {
        Array.from({ length: this.upTo(6) }, () => this.publish());
      } else {
        this[acts[this.upTo(acts.length)]]();
      }
      assert.ok(this.browser.server.connections.size <= 1);
      await this.browser.clock.pass(this.upTo(this.random() < 0.5 ? 5 : 60));
    }
    await this.browser.clock.pass(60_000);
    CHANNELS.forEach((name) => this.publish(name));
    await this.browser.clock.pass(1000);
  }

  check() {
    assert.deepEqual(new Set([...this.tabs.keys()].map((tab) => tab.hub.state)), new Set(["connected"]));
    assert.equal(this.browser.server.connections.size, 1);
    const ears = [...this.tabs.values()].flatMap((each) => [...each.values()]);
    ears.forEach((ear) => ear.check(this.published));
    return ears;
  }
}

for (const [what, history] of /** @type {const} */ ([["a long history", 10_000], ["a short one", 2], ["none", 0]])) {
  test(`${STORIES} stories with ${what}`, async () => {
    let [gaps, got] = [0, 0];
    for (let seed = 1; seed <= STORIES; seed += 1) {
      const story = new Story(seed, history);
      try {
        await story.tell();
        for (const ear of story.check()) {
          gaps += ear.gaps;
          got += ear.seqs.length;
        }
      } catch (error) {
        throw new Error(`story ${seed}: ${error}`, { cause: error });
      }
    }
    assert.ok(got > 5 * STORIES, "they are about something");
    assert.equal(gaps > 0, history < 10_000);
  });
}
