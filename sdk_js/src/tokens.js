import { TidingsError } from "./core/error.js";

/**
 * @typedef {import("./core/codes.js").End} End
 * @typedef {import("./world.js").World} World
 * @typedef {() => string | null | undefined | Promise<string | null | undefined>} GetToken
 */

/** A token that is about to end is not offered again. */
const MARGIN_MS = 5000;
/** So long a token is good whose end nobody has said, if it was never offered: its hub could not be reached. */
const FRESH_MS = 60_000;
// The longest that a timer takes.
const TIMER_MAX_MS = 2 ** 31 - 1;

/** The application's token, for as long as it can be used: not every reconnect asks the application. */
export class Tokens {
  /** @type {string | undefined} */
  #token;
  #untilMs = 0;
  #getToken;
  #world;
  #trouble;

  /**
   * @param {GetToken | undefined} getToken
   * @param {World} world
   * @param {(error: TidingsError) => void} trouble
   */
  constructor(getToken, world, trouble) {
    this.#getToken = getToken;
    this.#world = world;
    this.#trouble = trouble;
  }

  /** @returns {Promise<string | undefined | End>} the token if one is needed, or what follows from having none */
  async have() {
    return (this.#world.nowMs() < this.#untilMs - MARGIN_MS && this.#token) || this.renew();
  }

  /** @returns {Promise<string | undefined | End>} a new one */
  async renew() {
    if (this.#getToken === undefined) {
      return undefined;
    }
    try {
      this.#token = (await this.#getToken()) || undefined;
      this.#untilMs = this.#world.nowMs() + FRESH_MS;
      return this.#token ?? { code: "unauthorized", refused: true, message: "Signed out: getToken gave no token." };
    } catch (cause) {
      this.#trouble(new TidingsError("no_token", "getToken failed.", { cause }));
      return { code: "unavailable" };
    }
  }

  /** @returns {string | undefined} for CONNECT; until the hub says that it holds it is not offered again */
  offer() {
    this.#untilMs = 0;
    return this.#token;
  }

  /**
   * The hub says how long the token holds.
   *
   * @param {unknown} expiresInS
   * @returns {number | undefined} milliseconds until it should be renewed: at 75 to 85 % of its time, so that
   *   those who
   *   connected together do not ask together
   */
  holds(expiresInS) {
    if (typeof expiresInS !== "number" || this.#getToken === undefined) {
      return undefined;
    }
    const ms = expiresInS * 1000;
    this.#untilMs = this.#world.nowMs() + ms;
    return Math.min(Math.max(ms * (0.75 + 0.1 * this.#world.random()), 1000), TIMER_MAX_MS);
  }
}
