import { messageOf } from "./core/error.js";
import { TIMER_MAX_MS } from "./core/limits.js";

/**
 * @typedef {import("./core/codes.js").CloseReason} CloseReason
 * @typedef {import("./environment.js").Environment} Environment
 * @typedef {() => string | null | undefined | Promise<string | null | undefined>} GetToken
 */

/** A token that expires within this time is not used for another connect. */
const MARGIN_MS = 5000;
/** A token that was never sent, because its hub was unreachable, is reused for this long. */
const UNUSED_VALID_MS = 60_000;
/** RFC 6750 section 2.1: the characters of a token. An error page has others. */
const TOKEN = /^[\w.~+/-]+=*$/;

/**
 * Caches the application's token while it is valid, so that not every reconnect calls `getToken`. The cache ends with
 * `forget`: the next token may belong to another user.
 */
export class Tokens {
  /** @type {string | undefined} */
  #token;
  #validUntilMs = 0;
  /** The number of calls of `getToken` so far. */
  #callCount = 0;
  /** Answers of the calls up to this number are dropped: a newer call was answered, or `forget` came after them. */
  #lastAnswered = 0;
  #getToken;
  #environment;

  /**
   * @param {GetToken | undefined} getToken
   * @param {Environment} environment
   */
  constructor(getToken, environment) {
    this.#getToken = getToken;
    this.#environment = environment;
  }

  /** @returns {boolean} whether the application gives tokens */
  get areUsed() {
    return this.#getToken !== undefined;
  }

  /** @returns {CloseReason} why an attempt failed that lasted too long */
  get lateReason() {
    return this.#callCount > this.#lastAnswered
      ? { code: "no_token", message: "getToken: No answer in time." }
      : { message: "No answer in time." };
  }

  /** Drops the token, and the answers of all pending calls: another user may sign in from now on. */
  forget() {
    this.#token = undefined;
    this.#validUntilMs = 0;
    this.#lastAnswered = this.#callCount;
  }

  /** @returns {ReturnType<Tokens["renew"]>} a valid token, otherwise as `renew` */
  async get() {
    return (this.#environment.nowMs() < this.#validUntilMs - MARGIN_MS && this.#token) || this.renew();
  }

  /**
   * Requests a new token from `getToken`.
   *
   * @returns {Promise<string | undefined | null | CloseReason>} the token; the reason to close if there is none;
   *   undefined: `getToken` is not set; null: the answer came too late and must not be used
   */
  async renew() {
    if (!this.#getToken) {
      return undefined;
    }
    this.#callCount += 1;
    const call = this.#callCount;
    try {
      const token = checkToken(await this.#getToken());
      if (call <= this.#lastAnswered) {
        return null;
      }
      this.#lastAnswered = call;
      this.#token = token;
      this.#validUntilMs = this.#environment.nowMs() + UNUSED_VALID_MS;
      return token ?? { code: "unauthorized", refused: true, message: "Signed out: getToken gave no token." };
    } catch (cause) {
      if (call <= this.#lastAnswered) {
        // The application does not wait for this token any more, so its failure needs no action.
        return null;
      }
      return { code: "no_token", message: `getToken failed: ${messageOf(cause)}`, cause };
    }
  }

  /** The token was sent in CONNECT. It is not used again unless the hub accepts it. */
  onSent() {
    this.#validUntilMs = 0;
  }

  /**
   * The hub accepted the token.
   *
   * @param {unknown} expiresInS
   * @returns {number | undefined} milliseconds until the token should be renewed: after 75 to 85 % of its lifetime, so
   *   that clients that connected together do not renew together
   */
  accept(expiresInS) {
    if (typeof expiresInS !== "number" || !this.#getToken) {
      return undefined;
    }
    const validMs = expiresInS * 1000;
    this.#validUntilMs = this.#environment.nowMs() + validMs;
    return Math.min(Math.max(validMs * (0.75 + 0.1 * this.#environment.random()), 1000), TIMER_MAX_MS);
  }
}

/**
 * @param {unknown} token what the application returned
 * @returns {string | undefined} undefined: signed out
 * @throws {Error} it is no token
 */
export function checkToken(token) {
  if (!token) {
    return undefined;
  }
  if (typeof token !== "string") {
    throw new Error(`it returned a value of type ${typeof token}: return text.`);
  }
  const trimmed = token.trim();
  if (!TOKEN.test(trimmed)) {
    throw new Error("it returned no token: check the status of its response.");
  }
  return trimmed;
}
