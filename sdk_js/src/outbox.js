import { delayMs } from "./core/backoff.js";
import { RETRYABLE_CODES } from "./core/codes.js";
import { errorFrom, TidingsError } from "./core/error.js";
import { request } from "./socket.js";

/**
 * @typedef {import("./socket.js").Link} Link
 * @typedef {import("./environment.js").Environment} Environment
 */

/**
 * `body` is the same in every attempt: the hub recognizes a repetition by its id.
 *
 * @typedef {object} Entry
 * @property {string} event
 * @property {object} body
 * @property {boolean} isSent whether it was sent over the current link
 * @property {(response: any) => void} resolve
 * @property {(error: TidingsError) => void} reject
 * @property {() => void} cancel cancels its time limit
 */

/**
 * The application's requests to the hub, which wait while there is no connection. If `max` requests wait, a new one is
 * rejected and no waiting one is dropped. Each request is settled exactly once, within its time limit.
 */
export class Outbox {
  /** @type {Set<Entry>} in the order of the calls */
  #entries = new Set();
  /** @type {Link | undefined} */
  #link;
  #failures = 0;
  #cancelRetry = () => {};
  #environment;
  #max;
  #timeoutMs;

  /**
   * @param {Environment} environment
   * @param {number | undefined} max
   * @param {number | undefined} timeoutMs
   */
  constructor(environment, max = 100, timeoutMs = 30_000) {
    this.#environment = environment;
    this.#max = max;
    this.#timeoutMs = timeoutMs;
  }

  /**
   * @param {string} event
   * @param {object} body
   * @returns {Promise<any>} the hub's response; rejects with a TidingsError
   */
  request(event, body) {
    return new Promise((resolve, reject) => {
      if (this.#entries.size >= this.#max) {
        reject(new TidingsError("queue_full", "Too many wait."));
        return;
      }
      /** @type {Entry} */
      const entry = {
        event,
        body,
        isSent: false,
        resolve,
        reject,
        cancel: this.#environment.setTimer(() => {
          const message = entry.isSent ? "No answer in time: it may have been done." : "No connection in time.";
          this.#reject(entry, new TidingsError("timeout", message));
        }, this.#timeoutMs),
      };
      this.#entries.add(entry);
      this.#send();
    });
  }

  /** @param {Link} [link] where to send from now on; requests without a response are sent again there */
  setLink(link) {
    this.#link = link;
    this.#cancelRetry();
    for (const entry of this.#entries) {
      entry.isSent = false;
    }
    this.#send();
  }

  /** @param {TidingsError} error */
  rejectAll(error) {
    for (const entry of this.#entries) {
      this.#reject(entry, error);
    }
  }

  #send() {
    for (const entry of this.#entries) {
      if (this.#link && !entry.isSent) {
        entry.isSent = true;
        void this.#request(this.#link, entry);
      }
    }
  }

  /**
   * @param {Link} link
   * @param {Entry} entry
   */
  async #request(link, entry) {
    const response = await request(link, entry.event, entry.body);
    // If the link was lost, the next link sends the request again.
    if (link !== this.#link || !this.#entries.has(entry)) {
      return;
    }
    const error = response.error && errorFrom(response.error);
    if (!error) {
      this.#failures = 0;
      this.#remove(entry);
      entry.resolve(response);
    } else if (RETRYABLE_CODES.has(error.code)) {
      entry.isSent = false;
      this.#cancelRetry();
      this.#cancelRetry = this.#environment.setTimer(
        () => this.#send(),
        delayMs(this.#failures, this.#environment.random),
      );
      this.#failures += 1;
    } else {
      this.#reject(entry, error);
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
  #reject(entry, error) {
    this.#remove(entry);
    entry.reject(error);
  }
}
