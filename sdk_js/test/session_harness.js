// A session with its environment in memory: a clock that only tests advance, and links whose hub side a test controls.
import { Hub } from "../src/hub.js";
import { LOADED_PARTS } from "../src/parts.js";
import { Session } from "../src/session.js";

/** A clock that only tests advance. */
export class TestClock {
  nowMs = 0;
  longestDelayMs = 0;
  /** @type {Set<{atMs: number, callback: () => void}>} */
  #timers = new Set();

  /**
   * @param {() => void} callback
   * @param {number} delayMs
   */
  setTimer(callback, delayMs) {
    this.longestDelayMs = Math.max(this.longestDelayMs, delayMs);
    const timer = { atMs: this.nowMs + delayMs, callback };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** @returns {number} the number of running timers */
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
      due.callback();
    }
    this.nowMs = endMs;
  }
}

/** Runs all pending promise callbacks. */
export function settle() {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

/** The hub's side of one connection. */
export class TestLink {
  /** @type {{event: string, body: any, respond: (response: unknown) => void, fail: () => void}[]} without a response */
  requests = [];
  isClosed = false;

  /**
   * @param {string[]} transports
   * @param {import("../src/socket.js").LinkListener} listener
   */
  constructor(transports, listener) {
    this.transports = transports;
    this.listener = listener;
  }

  /** Opens the transport. Returns the payload of CONNECT as the hub receives it. */
  connect(name = this.transports[0]) {
    this.listener.onTransport(/** @type {import("../src/core/reconnect.js").Transport} */ (name));
    return JSON.parse(JSON.stringify(this.listener.auth()));
  }

  /**
   * Opens the transport and sends `tidings:ready`. By default it grants all channels, and recovers them if there is a
   * `since`.
   *
   * @param {Record<string, unknown>} [ready]
   */
  async accept(ready = {}) {
    const auth = this.connect();
    const result = { recovered: auth.since !== undefined };
    const channels = Object.fromEntries(["user:7", ...auth.channels].map((name) => [name, result]));
    this.emit("tidings:ready", { user: "7", connection: "c", cursor: auth.since ?? "e.0", channels, ...ready });
    await settle();
    return auth;
  }

  /**
   * @param {string} event
   * @param {unknown[]} values
   */
  emit(event, ...values) {
    this.listener.onEvent(event, values);
  }

  /**
   * @param {string} event
   * @param {object} body
   * @returns {Promise<unknown>}
   */
  request(event, body) {
    return new Promise((resolve, reject) => {
      const fail = () => reject(new Error("no answer"));
      this.requests.push({ event, body: JSON.parse(JSON.stringify(body)), respond: resolve, fail });
    });
  }

  /** The next request, which must have this event. */
  nextRequest(event) {
    const request = this.requests.shift();
    if (request?.event !== event) {
      throw new Error(`the next request is ${request?.event}, not ${event}`);
    }
    return request;
  }

  /** Grants all channels of the next subscribe request. */
  async acceptSubscribe(cursor = "e.0") {
    const { body, respond } = this.nextRequest("tidings:subscribe");
    respond({ cursor, channels: Object.fromEntries(body.channels.map((name) => [name, { recovered: false }])) });
    await settle();
    return body;
  }

  /** @param {import("../src/core/codes.js").CloseReason} reason */
  async disconnect(reason = {}) {
    this.isClosed = true;
    this.listener.onLost(reason);
    await settle();
  }

  close() {
    this.isClosed = true;
  }
}

/** A hub object and its session, with all connections so far in `links`. */
export class SessionHarness {
  clock = new TestClock();
  /** @type {TestLink[]} */
  links = [];
  random = 0.5;
  /** Whether the session watches the page. `wake` and `leave` are the callbacks. */
  isWatching = false;
  /** @type {import("../src/environment.js").SavedState[]} */
  savedStates = [];

  /**
   * @param {import("../src/options.js").Options} [options]
   * @param {import("../src/environment.js").SavedState} [saved] the state of the page before this one
   */
  constructor(options = {}, saved = { channels: [] }) {
    this.session = new Session(
      {
        openLink: (transports, listener) => {
          const link = new TestLink(transports, listener);
          this.links.push(link);
          return link;
        },
        parts: LOADED_PARTS,
        nowMs: () => this.clock.nowMs,
        setTimer: (callback, delayMs) => this.clock.setTimer(callback, delayMs),
        random: () => this.random,
        watch: (wake, leave) => {
          Object.assign(this, { isWatching: true, wake, leave });
          return () => {
            this.isWatching = false;
          };
        },
        saved,
        save: (state) => this.savedStates.push(state),
      },
      options,
    );
    this.hub = new Hub(this.session);
    this.session.start();
  }

  /** @returns {TestLink} the current connection */
  get link() {
    return this.links[this.links.length - 1];
  }
}
