// Random scenarios of tabs that open, close and crash during publications. They check the guarantee: each tab receives
// every publication of its channels once and in order, or a gap afterwards. There is never more than one connection.
import assert from "node:assert/strict";
import { test } from "node:test";
import { seededRandom, TestBrowser } from "./browser.js";

const SCENARIOS = 40;
const STEPS = 40;
const CHANNELS = ["a:1", "a:2", "b:1", "user:7"];

/** Listens to one channel in one tab, and records what it receives. */
class ChannelRecorder {
  /** @type {number[]} */
  seqs = [];
  gaps = 0;

  /**
   * @param {import("./browser.js").TestTab} tab
   * @param {string} name
   * @param {() => number} tick
   * @param {ChannelRecorder} [before] the recorder of the tab's previous page, if the channel can be recovered
   */
  constructor(tab, name, tick, before) {
    this.name = name;
    this.before = before;
    this.channel = tab.hub.channel(name);
    /** When the data was loaded the last time. It includes all earlier publications. */
    this.loadedAt = before?.loadedAt ?? Infinity;
    const load = () => {
      this.loadedAt = tick();
    };
    const onState = (/** @type {string} */ state) => state === "subscribed" && this.loadedAt === Infinity && load();
    const removers = [
      this.channel.on("*", (data, { cursor }) => this.seqs.push(Number(cursor.split(".")[1]))),
      this.channel.on("tidings:gap", () => {
        this.gaps += 1;
        load();
      }),
      this.channel.on("tidings:state", onState),
    ];
    onState(this.channel.state);
    this.stop = () => removers.forEach((remove) => remove());
  }

  /** @returns {number[]} the seqs that were received, on all pages */
  get all() {
    return [...(this.before?.all ?? []), ...this.seqs];
  }

  /** @param {{name: string, seq: number, at: number}[]} published */
  check(published) {
    assert.equal(this.channel.state, "subscribed");
    for (const [index, seq] of this.seqs.entries()) {
      assert.ok(index === 0 || seq > this.seqs[index - 1], `${this.name}: ${seq} after ${this.seqs[index - 1]}`);
    }
    const received = new Set(this.all);
    const expected = published.filter(({ name, at }) => name === this.name && at > this.loadedAt);
    const missing = expected.filter(({ seq }) => !received.has(seq));
    assert.deepEqual(missing, []);
  }
}

/** One random sequence of actions. */
class Scenario {
  /** @type {{name: string, seq: number, at: number}[]} */
  published = [];
  /** @type {Map<import("./browser.js").TestTab, Map<string, ChannelRecorder>>} */
  tabs = new Map();
  #ticks = 0;

  /**
   * @param {number} seed
   * @param {number} history
   */
  constructor(seed, history) {
    this.random = seededRandom(seed);
    const delayMs = () => this.upTo(4) ** 2;
    this.browser = new TestBrowser(this.random, { delayMs, lagMs: () => this.upTo(4) * 15, history });
    this.open();
  }

  tick = () => (this.#ticks += 1);

  upTo(/** @type {number} */ end) {
    return Math.floor(this.random() * end);
  }

  get randomTab() {
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

  /** Starts to listen to a channel of a tab, or stops it. */
  listen(tab = this.randomTab) {
    const name = CHANNELS[this.upTo(CHANNELS.length)];
    const recorders = this.tabs.get(tab);
    const recorder = recorders?.get(name);
    if (recorder === undefined) {
      recorders?.set(name, new ChannelRecorder(tab, name, this.tick));
    } else if (this.random() < 0.3) {
      recorder.stop();
      recorders?.delete(name);
    }
  }

  kill() {
    if (this.tabs.size > 1) {
      const tab = this.randomTab;
      tab.kill();
      this.tabs.delete(tab);
    }
  }

  reload() {
    const tab = this.randomTab;
    const recorders = this.tabs.get(tab) ?? new Map();
    tab.leave();
    tab.kill();
    this.tabs.delete(tab);
    const next = this.browser.open({}, tab.savedState);
    const renewed = [...recorders].map(([name, recorder]) => {
      const known = tab.savedState?.channels.includes(name) ? recorder : undefined;
      return /** @type {const} */ ([name, new ChannelRecorder(next, name, this.tick, known)]);
    });
    this.tabs.set(next, new Map(renewed));
  }

  /** The page enters the back/forward cache, and is shown again later. */
  leave() {
    const tab = this.randomTab;
    tab.leave();
    this.browser.clock.setTimer(() => tab.wake(), this.upTo(300));
  }

  close() {
    const tab = this.randomTab;
    tab.hub.close();
    this.browser.clock.setTimer(() => tab.api.isAlive && tab.hub.connect(), this.upTo(300));
  }

  cut() {
    if (this.random() < 0.3) {
      this.browser.server.disconnectAll();
    }
  }

  async run() {
    const actions = /** @type {const} */ (["open", "listen", "kill", "reload", "leave", "close", "cut"]);
    for (let step = 0; step < STEPS; step += 1) {
      if (this.random() < 0.5) {
        Array.from({ length: this.upTo(6) }, () => this.publish());
      } else {
        this[actions[this.upTo(actions.length)]]();
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
    const recorders = [...this.tabs.values()].flatMap((recordersByName) => [...recordersByName.values()]);
    recorders.forEach((recorder) => recorder.check(this.published));
    return recorders;
  }
}

for (const [description, history] of /** @type {const} */ ([
  ["a long history", 10_000],
  ["a short history", 2],
  ["no history", 0],
])) {
  test(`${SCENARIOS} random scenarios with ${description}`, async () => {
    let [gaps, received] = [0, 0];
    for (let seed = 1; seed <= SCENARIOS; seed += 1) {
      const scenario = new Scenario(seed, history);
      try {
        await scenario.run();
        for (const recorder of scenario.check()) {
          gaps += recorder.gaps;
          received += recorder.seqs.length;
        }
      } catch (error) {
        throw new Error(`scenario ${seed}: ${error}`, { cause: error });
      }
    }
    assert.ok(received > 5 * SCENARIOS, "the scenarios have enough publications");
    assert.equal(gaps > 0, history < 10_000);
  });
}
