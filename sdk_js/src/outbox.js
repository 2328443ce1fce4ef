import { delayMs } from "./core/backoff.js";
import { RETRYABLE_CODES } from "./core/codes.js";
import { errorFrom, TidingsError } from "./core/error.js";
import { checkLimit, TIMER_MAX_MS } from "./core/limits.js";
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
 * @property {string | undefined} user whose it is; undefined: of the user of the next connection
 * @property {boolean} isSent whether it was sent over the current link
 * @property {() => void} onSent called each time before it is sent
 * @property {(response: any) => void} resolve
 * @property {(error: TidingsError) => void} reject
 * @property {() => void} cancel cancels its time limit
 */

/**
 * The application's requests to the hub, which wait while there is no connection. If `max` requests wait, a new one is
 * rejected and no waiting one is dropped. Each request is settled exactly once, within its time limit.
 */
export class Outbox {
  /** @type {string | undefined} the user of new requests, if known: that of the connection or of its token */
  user;
  /** @type {string | undefined} otherwise, until the hub closes: the user of the page before this one */
  likelyUser;
  /**
   * The time until the hub closes or has another user.
   *
   * @type {{user?: string | undefined, error?: TidingsError}} `user`: whose it is, if known; `error`: why it is over
   */
  visit = {};
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
   * @throws {TidingsError} `bad_option`
   */
  constructor(environment, max = 100, timeoutMs = 30_000) {
    this.#environment = environment;
    this.#max = checkLimit("queueMax", max);
    this.#timeoutMs = checkLimit("requestTimeoutMs", timeoutMs);
  }

  /**
   * @param {string} event
   * @param {object} body
   * @param {() => void} [onSent] called each time before it is sent
   * @param {string} [user] whose it is
   * @returns {Promise<any>} the hub's response; rejects with a TidingsError
   */
  request(event, body, onSent = () => {}, user = this.user) {
    return new Promise((resolve, reject) => {
      if (this.#entries.size >= this.#max) {
        throw new TidingsError("queue_full", "Too many wait.");
      }
      /** @type {Entry} */
      const entry = {
        event,
        body,
        user,
        isSent: false,
        onSent,
        resolve,
        reject,
        cancel: () => {},
      };
      if (this.#timeoutMs <= TIMER_MAX_MS) {
        entry.cancel = this.#environment.setTimer(() => {
          const message = entry.isSent ? "No answer in time: it may have been done." : "No connection in time.";
          this.#reject(entry, new TidingsError("timeout", message));
        }, this.#timeoutMs);
      }
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

  /**
   * Rejects the requests of another user, which this one must not send.
   *
   * @param {string | undefined} user of the next connection; undefined: only the hub will name it
   */
  setUser(user) {
    const error = new TidingsError("closed", "Another user signed in.");
    if (user && this.user && user !== this.user) {
      this.#endVisit(error);
    }
    this.user = this.visit.user = user ?? this.user;
    for (const entry of this.#entries) {
      entry.user ??= user;
      if (user && entry.user !== user) {
        this.#reject(entry, error);
      }
    }
  }

  /** @param {TidingsError} error after which another user may sign in */
  rejectAll(error) {
    this.user = this.likelyUser = undefined;
    this.#endVisit(error);
    for (const entry of this.#entries) {
      this.#reject(entry, error);
    }
  }

  /** @param {TidingsError} error */
  #endVisit(error) {
    this.visit.error = error;
    this.visit = {};
  }

  #send() {
    for (const entry of this.#entries) {
      if (this.#link && !entry.isSent) {
        entry.isSent = true;
        entry.onSent();
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
