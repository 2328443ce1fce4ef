// The other side of a session, in memory: a clock that only tests move, and a hub that says what a test lets it say.
import { Hub } from "../src/hub.js";
import { Session } from "../src/session.js";

/** Time that passes only when a test says so. */
export class TestClock {
  nowMs = 0;
  /** @type {Set<{atMs: number, tell: () => void}>} */
  #timers = new Set();

  /**
   * @param {() => void} tell
   * @param {number} inMs
   */
  after(tell, inMs) {
    const timer = { atMs: this.nowMs + inMs, tell };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** @returns {number} how many timers run */
  get running() {
    return this.#timers.size;
  }

  /** @param {number} ms */
  async pass(ms) {
    const endMs = this.nowMs + ms;
    for (;;) {
      await settle();
      const due = [...this.#timers].filter((timer) => timer.atMs <= endMs).sort((a, b) => a.atMs - b.atMs)[0];
      if (due === undefined) {
        break;
      }
      this.nowMs = Math.max(this.nowMs, due.atMs);
      this.#timers.delete(due);
      due.tell();
    }
    this.nowMs = endMs;
  }
}

/** Lets every promise that can go on do so. */
export function settle() {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

/** One connection as the hub sees it. */
export class TestLink {
  /** @type {{event: string, body: any, answer: (said: unknown) => void, fail: () => void}[]} not answered yet */
  asked = [];
  closed = false;

  /**
   * @param {string[]} transports
   * @param {import("../src/socket.js").LinkListener} listener
   */
  constructor(transports, listener) {
    this.transports = transports;
    this.listener = listener;
  }

  /** The transport opens; what CONNECT said, as it travels. */
  connect(name = this.transports[0]) {
    this.listener.transport(/** @type {import("../src/core/course.js").Transport} */ (name));
    return JSON.parse(JSON.stringify(this.listener.auth()));
  }

  /**
   * The transport opens and the hub accepts. Channels are granted if not said otherwise, and recovered if there is
   * `since`.
   *
   * @param {Record<string, unknown>} [ready]
   */
  async accept(ready = {}) {
    const auth = this.connect();
    const granted = { recovered: auth.since !== undefined };
    const channels = Object.fromEntries(["user:7", ...auth.channels].map((name) => [name, granted]));
    this.say("tidings:ready", { user: "7", connection: "c", cursor: auth.since ?? "e.0", channels, ...ready });
    await settle();
    return auth;
  }

  /**
   * @param {string} event
   * @param {unknown[]} values
   */
  say(event, ...values) {
    this.listener.event(event, values);
  }

  /**
   * @param {string} event
   * @param {object} body
   * @returns {Promise<unknown>}
   */
  ask(event, body) {
    return new Promise((resolve, reject) => {
      const fail = () => reject(new Error("no answer"));
      this.asked.push({ event, body: JSON.parse(JSON.stringify(body)), answer: resolve, fail });
    });
  }

  /** The next request, which must be of this event. */
  next(event) {
    const request = this.asked.shift();
    if (request?.event !== event) {
      throw new Error(`asked was ${request?.event}, not ${event}`);
    }
    return request;
  }

  /** Grants what is asked in the next subscribe. */
  async grant(cursor = "e.0") {
    const { body, answer } = this.next("tidings:subscribe");
    answer({ cursor, channels: Object.fromEntries(body.channels.map((name) => [name, { recovered: false }])) });
    await settle();
    return body;
  }

  /** @param {import("../src/core/codes.js").End} end */
  async lose(end = {}) {
    this.closed = true;
    this.listener.lost(end);
    await settle();
  }

  close() {
    this.closed = true;
  }
}

/** A hub with everything around it. `links` are the connections so far. */
export class TestPair {
  clock = new TestClock();
  /** @type {TestLink[]} */
  links = [];
  random = 0.5;
  watching = false;
  /** @type {import("../src/world.js").Kept[]} what was kept */
  keeps = [];

  /**
   * @param {import("../src/hub.js").Options} [options]
   * @param {import("../src/world.js").Kept} [kept]
   */
  constructor(options = {}, kept = { channels: [] }) {
    this.session = new Session(
      {
        open: (transports, listener) => {
          const link = new TestLink(transports, listener);
          this.links.push(link);
          return link;
        },
        nowMs: () => this.clock.nowMs,
        after: (tell, inMs) => this.clock.after(tell, inMs),
        random: () => this.random,
        watch: (wake, leave) => {
          Object.assign(this, { watching: true, wake, leave });
          return () => {
            this.watching = false;
          };
        },
        kept,
        keep: (what) => this.keeps.push(what),
      },
      options,
    );
    this.hub = new Hub(this.session);
    this.session.begin();
  }

  /** @returns {TestLink} the present connection */
  get link() {
    return this.links[this.links.length - 1];
  }
}
