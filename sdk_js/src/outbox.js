import { delayMs } from "./core/backoff.js";
import { COME_BACK } from "./core/codes.js";
import { errorFrom, TidingsError } from "./core/error.js";
import { ask } from "./socket.js";

/**
 * @typedef {import("./socket.js").Link} Link
 * @typedef {import("./world.js").World} World
 */

/**
 * `body` is the same at every try, so that the hub knows a repetition by its id.
 *
 * @typedef {object} Entry
 * @property {string} event
 * @property {object} body
 * @property {boolean} sent over the present link
 * @property {(answer: any) => void} resolve
 * @property {(error: TidingsError) => void} reject
 * @property {() => void} cancel its time limit
 */

/**
 * What the application asks of the hub, also while there is no connection. Bounded: past `max` a new request is
 * refused,
 * and none of the waiting ones is dropped. Each is settled exactly once, within its time.
 */
export class Outbox {
  /** @type {Set<Entry>} in the order of asking */
  #entries = new Set();
  /** @type {Link | undefined} */
  #link;
  #failures = 0;
  #again = () => {};
  #world;
  #max;
  #timeoutMs;

  /**
   * @param {World} world
   * @param {number | undefined} max
   * @param {number | undefined} timeoutMs
   */
  constructor(world, max = 100, timeoutMs = 30_000) {
    this.#world = world;
    this.#max = max;
    this.#timeoutMs = timeoutMs;
  }

  /**
   * @param {string} event
   * @param {object} body
   * @returns {Promise<any>} the hub's answer; rejects with a TidingsError
   */
  request(event, body) {
    return new Promise((resolve, reject) => {
      if (this.#entries.size >= this.#max) {
        reject(new TidingsError("queue_full", "Too many requests wait."));
        return;
      }
      /** @type {Entry} */
      const entry = { event, body, sent: false, resolve, reject, cancel: () => {} };
      entry.cancel = this.#world.after(() => {
        const what = entry.sent ? "No answer in time: it may have been done." : "No connection in time.";
        this.#fail(entry, new TidingsError("timeout", what));
      }, this.#timeoutMs);
      this.#entries.add(entry);
      this.#send();
    });
  }

  /** @param {Link | undefined} link where to send from now on; what was not answered is asked again there */
  use(link) {
    this.#link = link;
    this.#again();
    for (const entry of this.#entries) {
      entry.sent = false;
    }
    this.#send();
  }

  /** @param {TidingsError} error what all that wait are rejected with */
  fail(error) {
    for (const entry of this.#entries) {
      this.#fail(entry, error);
    }
  }

  #send() {
    for (const entry of this.#entries) {
      if (this.#link !== undefined && !entry.sent) {
        entry.sent = true;
        void this.#ask(this.#link, entry);
      }
    }
  }

  /**
   * @param {Link} link
   * @param {Entry} entry
   */
  async #ask(link, entry) {
    const answer = await ask(link, entry.event, entry.body);
    // An answer that is lost with its link is asked for on the next one.
    if (link !== this.#link || !this.#entries.has(entry)) {
      return;
    }
    const error = answer.error && errorFrom(answer.error);
    if (error === undefined) {
      this.#failures = 0;
      this.#remove(entry);
      entry.resolve(answer);
    } else if (COME_BACK.has(error.code)) {
      // It failed only for now.
      entry.sent = false;
      this.#again();
      this.#again = this.#world.after(() => this.#send(), delayMs(this.#failures, this.#world.random));
      this.#failures += 1;
    } else {
      this.#fail(entry, error);
    }
  }

  /** @param {Entry} entry */
  #remove(entry) {
    entry.cancel();
    this.#entries.delete(entry);
  }

  /**
   * @param {Entry} entry
   * @param {TidingsError} error
   */
  #fail(entry, error) {
    this.#remove(entry);
    entry.reject(error);
  }
}
