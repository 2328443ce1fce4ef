import { RETRYABLE_CODES } from "./core/codes.js";
import { errorFrom, TidingsError } from "./core/error.js";
import { Listeners } from "./core/listeners.js";
import { Positions } from "./core/positions.js";
import { ReconnectState } from "./core/reconnect.js";
import { Subscriptions } from "./core/subscriptions.js";
import { Outbox } from "./outbox.js";
import { NO_RESPONSE, request } from "./socket.js";
import { Timers } from "./timers.js";
import { Tokens } from "./tokens.js";

/**
 * @typedef {import("./core/codes.js").CloseReason} CloseReason
 * @typedef {import("./core/reconnect.js").Transport} Transport
 * @typedef {import("./socket.js").LinkListener} LinkListener
 */

const SHORT_DELAY_MS = 1000;
const RETRY_MS = 5000;

/** The logical connection across reconnects. It does what the modules in `core` decide. */
export class Session {
  listeners = new Listeners();
  /** @type {Transport | undefined} */
  transport;
  /** @type {string | undefined} */
  user;
  /** @type {TidingsError | undefined} */
  error;
  /** @type {(Pick<LinkListener, "onEvent"> & {namesForConnect: () => string[], update: () => void}) | undefined} */
  presenceClient;
  /** @type {Promise<void> | undefined} the loading of `presenceClient`, started by the first use of presence */
  presenceLoading;
  /** @type {import("./socket.js").Link | undefined} */
  #link;
  /** Identifies the current connection attempt: results of an earlier one are ignored. */
  #attempt = {};
  #unwatchPage = () => {};
  #timers;
  #tokens;
  #positions;

  /**
   * @param {import("./environment.js").Environment} environment
   * @param {import("./options.js").Options} options
   */
  constructor(environment, options) {
    this.environment = environment;
    this.reconnect = new ReconnectState(options.transports ?? ["websocket", "polling"], environment.random);
    this.#positions = new Positions(environment.saved.cursor);
    this.channels = new Subscriptions(this.#positions, environment.saved.channels);
    this.#timers = new Timers(environment.setTimer);
    this.outbox = new Outbox(environment, options.queueMax, options.requestTimeoutMs);
    this.#tokens = new Tokens(options.getToken, environment, (error) => this.listeners.emit("error", error));
  }

  /** Connects, unless it is connected or connecting. */
  start() {
    if (this.reconnect.start()) {
      this.#unwatchPage();
      this.#unwatchPage = this.environment.watch(
        () => this.reconnect.apply("wake") && this.#open(),
        () => this.#save(),
      );
      void this.#open();
    }
  }

  /** Closes the connection and rejects waiting requests. */
  stop() {
    if (this.reconnect.apply("stop")) {
      this.#close(new TidingsError("closed", "Closed by the application."));
    }
  }

  /** Schedules `#subscribe` after listeners changed. Changes in the same task share one request. */
  subscribeSoon() {
    this.#timers.set("subscribe", 0, () => this.#subscribe());
  }

  async #open() {
    const attempt = {};
    this.#attempt = attempt;
    this.error = undefined;
    this.#timers.cancel("retry");
    this.#timers.set("attempt", this.reconnect.attemptMs, () => this.#onLost({ message: "No answer in time." }));
    this.#emitState();
    const token = await this.#tokens.get();
    if (this.#attempt !== attempt) {
      return;
    }
    if (typeof token === "object") {
      this.#onLost(token);
      return;
    }
    const link = await this.environment.openLink(this.reconnect.transports, {
      auth: () => ({
        channels: this.channels.namesForConnect(),
        presence: this.presenceClient?.namesForConnect(),
        // This client keeps its own cursor, so the hub does not store a session for it.
        pid: null,
        token: this.#tokens.take(),
        since: this.#positions.cursor,
      }),
      onEvent: (event, values) => this.#onEvent(event, values),
      onTransport: (name) => {
        this.reconnect.onTransport(name);
        this.#setTransport(name);
      },
      onLost: (reason) => this.#onLost(reason),
    });
    if (this.#attempt === attempt) {
      this.#link = link;
    } else {
      link.close();
    }
  }

  /** @type {LinkListener["onEvent"]} */
  #onEvent(event, values) {
    const body = Object(values[0]);
    this.presenceClient?.onEvent(event, values);
    if (!event.startsWith("tidings:")) {
      this.#onPublication(event, values);
    } else if (event === "tidings:ready" && this.reconnect.state === "connecting") {
      this.#onReady(body);
    } else if (event === "tidings:gap") {
      this.#positions.advance(body.cursor);
      this.channels.onGap(Object(body.channels));
      this.#saveSoon();
    } else if (event === "tidings:unsubscribed") {
      this.#deny(body.channels);
    } else if (event === "tidings:expiring") {
      // After a delay: an application that returns the same token again would otherwise be called in a loop.
      this.#scheduleRefresh(SHORT_DELAY_MS);
    } else {
      // Join and leave events have a cursor, as publications do.
      this.#positions.advance(values[2]);
    }
  }

  /** @type {LinkListener["onEvent"]} */
  #onPublication(event, [data, channel, cursor]) {
    if (typeof channel !== "string" || typeof cursor !== "string") {
      this.listeners.emit("error", new TidingsError("bad_packet", "No publication."));
      return;
    }
    const listeners = this.channels.get(channel)?.listeners;
    if (!listeners) {
      this.#positions.advance(cursor);
    } else if (this.#positions.accept(channel, cursor)) {
      const meta = { event, channel, cursor };
      listeners.emit(event, data, meta);
      listeners.emit("*", data, meta);
    }
    this.#saveSoon();
  }

  /** @param {any} ready the body of `tidings:ready` */
  #onReady(ready) {
    this.#timers.cancel("attempt");
    this.#positions.advance(ready.cursor);
    this.user = ready.user;
    this.#scheduleRefresh(this.#tokens.accept(ready.expires_in_s));
    this.reconnect.onReady(this.environment.nowMs());
    this.#emitState();
    this.channels.onReady(Object(ready.channels), ready.cursor);
    void this.#subscribe();
    this.outbox.setLink(this.#link);
    this.#saveSoon();
  }

  /** @param {CloseReason} reason */
  #onLost(reason) {
    if (reason.code === "expired") {
      this.#tokens.take();
    }
    const retryMs = this.reconnect.onLost(reason, this.environment.nowMs());
    if (retryMs === undefined) {
      this.#close(new TidingsError(reason.code ?? "disconnected", reason.message ?? "The hub closed the connection."));
      return;
    }
    this.#dropLink();
    this.#timers.set("retry", retryMs, () => this.reconnect.apply("retry") && this.#open());
    this.#emitState();
  }

  /** @param {TidingsError} error */
  #close(error) {
    this.error = error;
    this.#unwatchPage();
    this.#dropLink();
    this.outbox.rejectAll(error);
    this.#timers.clear();
    this.#save();
    this.#emitState();
  }

  #dropLink() {
    this.#attempt = {};
    this.#timers.cancel("attempt");
    this.#timers.cancel("refresh");
    this.#link?.close();
    this.#link = undefined;
    this.outbox.setLink();
    this.channels.onLost();
    this.#setTransport();
  }

  /** @param {Transport} [name] */
  #setTransport(name) {
    this.transport = name;
    this.listeners.emit("transport", name);
  }

  /** @param {number | undefined} delayMs undefined: no refresh is needed */
  #scheduleRefresh(delayMs) {
    if (delayMs !== undefined) {
      this.#timers.set("refresh", delayMs, () => this.#refreshToken());
    }
  }

  /** @param {unknown} names channels that the new token does not cover, or that a backend unsubscribed */
  #deny(names) {
    this.channels.deny(Array.isArray(names) ? names : [], new TidingsError("forbidden", "No longer allowed."));
  }

  async #refreshToken() {
    const link = this.#link;
    if (!link) {
      return;
    }
    const token = await this.#tokens.renew();
    const response = typeof token === "string" ? await request(link, "tidings:refresh", { token }) : NO_RESPONSE;
    if (link !== this.#link) {
      return;
    }
    if (response === NO_RESPONSE) {
      if (typeof token === "object" && token.refused) {
        this.#onLost(token);
      } else {
        this.#scheduleRefresh(RETRY_MS * this.environment.random());
      }
    } else if (!response.error) {
      this.#scheduleRefresh(this.#tokens.accept(response.expires_in_s));
      this.#deny(response.left);
      this.channels.retryDenied();
      void this.#subscribe();
    } else {
      // The token is invalid or belongs to another user. Reconnecting with it decides.
      this.#onLost({ code: "disconnected" });
    }
  }

  async #subscribe() {
    this.presenceClient?.update();
    const link = this.#link;
    if (!link || this.reconnect.state !== "connected") {
      return;
    }
    const { subscribe, unsubscribe } = this.channels.takeChanges();
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
      this.channels.apply(Object(response.channels), response.cursor);
      this.subscribeSoon();
    } else if (RETRYABLE_CODES.has(error.code)) {
      // If the link has ended, its close reason arrives first and decides whether to reconnect.
      this.#timers.set("attempt", 0, () => this.#onLost(error));
    } else {
      this.channels.deny(subscribe, error);
    }
  }

  #saveSoon() {
    if (!this.#timers.has("save")) {
      this.#timers.set("save", SHORT_DELAY_MS, () => this.#save());
    }
  }

  #save() {
    const { cursor } = this.#positions;
    if (cursor !== undefined) {
      this.environment.save({ cursor, channels: this.channels.recoverableNames });
    }
  }

  #emitState() {
    this.listeners.emit("state", this.reconnect.state, this.error);
  }
}
