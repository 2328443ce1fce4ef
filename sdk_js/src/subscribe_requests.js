import { RETRYABLE_CODES } from "./core/codes.js";
import { errorFrom } from "./core/error.js";
import { request } from "./socket.js";

/**
 * @typedef {import("./core/codes.js").CloseReason} CloseReason
 * @typedef {import("./core/subscriptions.js").Subscriptions} Subscriptions
 * @typedef {import("./socket.js").Link} Link
 * @typedef {import("./timers.js").Timers} Timers
 */

const RETRY_MS = 5000;

/** Sends what has changed in the subscriptions to the hub. */
export class SubscribeRequests {
  /** @type {Link | undefined} */
  #link;
  #channels;
  #timers;
  #random;
  #onLost;
  #sendSoon;

  /**
   * @param {Subscriptions} channels
   * @param {Timers} timers
   * @param {() => number} random in [0, 1)
   * @param {(reason: CloseReason) => void} onLost the connection must end
   * @param {() => void} sendSoon calls `send` soon
   */
  constructor(channels, timers, random, onLost, sendSoon) {
    this.#channels = channels;
    this.#timers = timers;
    this.#random = random;
    this.#onLost = onLost;
    this.#sendSoon = sendSoon;
  }

  /** @param {Link} [link] the connection from now on, once the hub has accepted it */
  setLink(link) {
    this.#link = link;
  }

  /** Sends the requests that are due. Those that the hub refused for now are sent again after 5 to 10 s. */
  async send() {
    const channels = this.#channels;
    const link = this.#link;
    if (!link) {
      return;
    }
    if (channels.hasPostponed) {
      this.#timers.setOnce("postponed", RETRY_MS * (1 + this.#random()), () => {
        channels.retryPostponed();
        this.#sendSoon();
      });
    }
    const { subscribe, unsubscribe } = channels.takeChanges();
    if (unsubscribe.length) {
      void request(link, "tidings:unsubscribe", { channels: unsubscribe });
    }
    if (!subscribe.length) {
      return;
    }
    const response = await request(link, "tidings:subscribe", { channels: subscribe });
    if (link !== this.#link) {
      return;
    }
    const error = response.error && errorFrom(response.error);
    if (!error) {
      channels.apply(Object(response.channels), response.cursor);
      this.#sendSoon();
    } else if (RETRYABLE_CODES.has(error.code)) {
      // If the link has ended, its close reason arrives first and decides whether to reconnect.
      this.#timers.set("attempt", 0, () => this.#onLost(error));
    } else {
      channels.deny(subscribe, error);
    }
  }
}
