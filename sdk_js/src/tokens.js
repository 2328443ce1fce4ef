import { TidingsError } from "./core/error.js";

/**
 * @typedef {import("./core/codes.js").CloseReason} CloseReason
 * @typedef {import("./environment.js").Environment} Environment
 * @typedef {() => string | null | undefined | Promise<string | null | undefined>} GetToken
 */

/** A token that expires within this time is not used for another connect. */
const MARGIN_MS = 5000;
/** A token that was never sent, because its hub was unreachable, is reused for this long. */
const UNUSED_VALID_MS = 60_000;
// The longest delay of a JavaScript timer.
const TIMER_MAX_MS = 2 ** 31 - 1;

/** Caches the application's token while it is valid, so that not every reconnect calls `getToken`. */
export class Tokens {
  /** @type {string | undefined} */
  #token;
  #validUntilMs = 0;
  #getToken;
  #environment;
  #onError;

  /**
   * @param {GetToken | undefined} getToken
   * @param {Environment} environment
   * @param {(error: TidingsError) => void} onError
   */
  constructor(getToken, environment, onError) {
    this.#getToken = getToken;
    this.#environment = environment;
    this.#onError = onError;
  }

  /** @returns {Promise<string | undefined | CloseReason>} a valid token; the reason to close if there is none */
  async get() {
    return (this.#environment.nowMs() < this.#validUntilMs - MARGIN_MS && this.#token) || this.renew();
  }

  /** @returns {Promise<string | undefined | CloseReason>} a new token from `getToken`; undefined if it is not set */
  async renew() {
    if (!this.#getToken) {
      return undefined;
    }
    try {
      this.#token = (await this.#getToken()) || undefined;
      this.#validUntilMs = this.#environment.nowMs() + UNUSED_VALID_MS;
      return this.#token ?? { code: "unauthorized", refused: true, message: "Signed out: getToken gave no token." };
    } catch (cause) {
      this.#onError(new TidingsError("no_token", "getToken failed.", { cause }));
      return { code: "unavailable" };
    }
  }

  /** @returns {string | undefined} the token for CONNECT. It is not used again unless the hub accepts it */
  take() {
    this.#validUntilMs = 0;
    return this.#token;
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
