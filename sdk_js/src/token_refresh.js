import { errorFrom, TidingsError } from "./core/error.js";
import { NO_RESPONSE, request } from "./socket.js";

/**
 * @typedef {import("./core/codes.js").CloseReason} CloseReason
 * @typedef {import("./environment.js").Environment} Environment
 * @typedef {import("./socket.js").Link} Link
 * @typedef {import("./tokens.js").Tokens} Tokens
 */

const RETRY_MS = 5000;

/** Sends a new token to the hub before the last one expires. */
export class TokenRefresh {
  /** @type {Link | undefined} */
  #link;
  #cancelTimer = () => {};
  #tokens;
  #environment;
  #onRefreshed;
  #onRefused;
  #onError;

  /**
   * @param {Tokens} tokens
   * @param {Environment} environment
   * @param {(left: unknown) => void} onRefreshed the hub accepted a token; `left`: channels that it does not cover
   * @param {(reason: CloseReason) => void} onRefused the connection must not continue with its old token
   * @param {(error: TidingsError) => void} onError there is no new token yet
   */
  constructor(tokens, environment, onRefreshed, onRefused, onError) {
    this.#tokens = tokens;
    this.#environment = environment;
    this.#onRefreshed = onRefreshed;
    this.#onRefused = onRefused;
    this.#onError = onError;
  }

  /** @param {Link} [link] the connection from now on. A token that was requested for an earlier one is not sent */
  setLink(link) {
    this.#cancelTimer();
    this.#link = link;
  }

  /** @param {number | undefined} delayMs undefined: no refresh is needed */
  schedule(delayMs) {
    if (delayMs !== undefined) {
      this.#cancelTimer();
      this.#cancelTimer = this.#environment.setTimer(() => void this.#refresh(), delayMs);
    }
  }

  async #refresh() {
    const link = this.#link;
    const token = await this.#tokens.renew();
    // The application may have closed the connection meanwhile, and another user may have signed in.
    if (!link || link !== this.#link) {
      return;
    }
    if (token === null) {
      this.schedule(RETRY_MS * this.#environment.random());
      return;
    }
    const response = typeof token === "string" ? await request(link, "tidings:refresh", { token }) : NO_RESPONSE;
    if (link === this.#link) {
      this.#apply(token, response);
    }
  }

  /**
   * @param {string | CloseReason | undefined} token the new one, or the reason that there is none
   * @param {any} response of the hub
   */
  #apply(token, response) {
    if (typeof token === "object" && token.refused) {
      this.#onRefused(token);
    } else if (response === NO_RESPONSE) {
      if (typeof token === "object") {
        this.#onError(new TidingsError("no_token", String(token.message), { cause: token.cause }));
      }
      this.schedule(RETRY_MS * this.#environment.random());
    } else if (!response.error) {
      this.schedule(this.#tokens.accept(response.expires_in_s));
      this.#onRefreshed(response.left);
    } else {
      // The token is invalid or belongs to another user. Reconnecting with a new one decides.
      const { code, message } = errorFrom(response.error);
      this.#onRefused({ code: "disconnected", message: `The hub refused the new token: ${message} (${code})` });
    }
  }
}
