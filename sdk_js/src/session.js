import { isFailure, needsNewToken } from "./core/codes.js";
import { TidingsError } from "./core/error.js";
import { Listeners } from "./core/listeners.js";
import { Positions } from "./core/positions.js";
import { ReconnectState } from "./core/reconnect.js";
import { Subscriptions } from "./core/subscriptions.js";
import { userOf } from "./core/token_user.js";
import { ErrorReports } from "./error_reports.js";
import { Outbox } from "./outbox.js";
import { SubscribeRequests } from "./subscribe_requests.js";
import { Timers } from "./timers.js";
import { TokenRefresh } from "./token_refresh.js";
import { Tokens } from "./tokens.js";
import { applyUser } from "./user_change.js";

/** @typedef {import("./core/codes.js").CloseReason} CloseReason */
/** @typedef {import("./core/reconnect.js").Transport} Transport */
/** @typedef {import("./socket.js").LinkListener} LinkListener */

const SHORT_DELAY_MS = 1000;

/** The logical connection across reconnects. It does what the modules in `core` decide. */
export class Session {
  listeners = new Listeners();
  #reports = new ErrorReports(this.listeners);
  report = this.#reports.report;
  transport = /** @type {Transport | undefined} */ (undefined);
  user = /** @type {string | undefined} */ (undefined);
  /** @type {TidingsError | undefined} why there is no connection */
  error;
  /** @type {(Pick<LinkListener, "onEvent"> & {namesForConnect: () => string[], update: () => void}) | undefined} */
  presenceClient;
  /** @type {Promise<void> | undefined} the loading of `presenceClient`, started by the first use of presence */
  presenceLoading;
  /** @type {Promise<{publish: (body: object) => Promise<any>} | void> | undefined} if publishes outlive the page */
  keptQueue;
  /** @type {import("./socket.js").Link | undefined} */
  #link;
  /** Identifies the current connection attempt: results of an earlier one are ignored. Listeners may end it. */
  #attempt = {};
  /** @type {string | undefined} the user of the last connection, or of the page before this one */
  #lastUser;
  #unwatchPage = () => {};
  #timers;
  #requests;
  #tokens;
  #refresh;
  #positions;

  /**
   * @param {import("./environment.js").Environment} environment
   * @param {import("./options.js").Options} options
   */
  constructor(environment, options) {
    this.environment = environment;
    this.reconnect = new ReconnectState(options.transports ?? ["websocket", "polling"], environment.random);
    this.#positions = new Positions(environment.saved.cursor);
    this.channels = new Subscriptions(this.#positions, environment.saved.channels, this.report);
    this.#timers = new Timers(environment.setTimer);
    const onLost = (/** @type {CloseReason} */ reason) => this.#onLost(reason);
    const { random } = environment;
    this.#requests = new SubscribeRequests(this.channels, this.#timers, random, onLost, () => this.subscribeSoon());
    this.outbox = new Outbox(environment, options.queueMax, options.requestTimeoutMs);
    this.#lastUser = this.outbox.likelyUser = environment.saved.user;
    this.#tokens = new Tokens(options.getToken, environment);
    const onRefreshed = (/** @type {unknown} */ left) => {
      this.#deny(left);
      this.channels.retryDenied();
      this.#subscribe();
    };
    this.#refresh = new TokenRefresh(this.#tokens, environment, onRefreshed, onLost, this.report);
  }

  /** Connects, unless it is connected or connecting. */
  start() {
    if (this.reconnect.start()) {
      this.#tokens.forget();
      this.error = undefined;
      this.channels.onLost();
      this.#unwatchPage();
      this.#unwatchPage = this.environment.watch((cached) => this.#wake(cached === true), () => this.#save());
      void this.#open();
    }
  }

  /** @param {boolean} wasCached back from the back/forward cache: connections may have ended, and users changed */
  #wake(wasCached) {
    if (wasCached) {
      this.#tokens.forget();
    }
    if (wasCached && this.reconnect.state !== "waiting") {
      this.#onLost({ message: "Back from the cache.", isHarmless: true });
    }
    return this.reconnect.apply("wake") && this.#open();
  }

  /** Closes the connection and rejects waiting requests. */
  stop() {
    if (this.reconnect.apply("stop")) {
      this.#close(new TidingsError("closed", "The page closed the connection."));
    }
  }

  /** Schedules `#subscribe` after listeners changed. Changes in the same task share one request. */
  subscribeSoon() {
    this.#timers.set("subscribe", 0, () => this.#subscribe());
  }

  async #open() {
    const attempt = {};
    this.#attempt = attempt;
    this.#timers.cancel("retry");
    this.#timers.set("attempt", this.reconnect.attemptMs, () => this.#onLost(this.#tokens.lateReason));
    this.#emitState();
    const token = this.#attempt === attempt ? await this.#tokens.get() : null;
    if (this.#attempt !== attempt || token === null) {
      return;
    }
    if (typeof token === "object") {
      this.#onLost(token);
      return;
    }
    this.outbox.setUser(userOf(token));
    const link = await this.environment.openLink(this.reconnect.transports, {
      auth: () => {
        this.#tokens.onSent();
        return {
          channels: this.channels.namesForConnect(),
          presence: this.presenceClient?.namesForConnect(),
          // This client keeps its own cursor, so the hub does not store a session for it.
          pid: null,
          token,
          since: this.#positions.cursor,
        };
      },
      onEvent: (...args) => this.#attempt === attempt && this.#setUser(...args) && this.#onEvent(...args),
      onTransport: (name) => this.#attempt === attempt && this.#setTransport(name),
      onLost: (reason) => this.#attempt === attempt && this.#onLost(reason),
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
    if (!/^tidings:(?!(job|notification|inbox)$)/u.test(event)) {
      this.#onPublication(event, values);
    } else if (event === "tidings:ready" && this.reconnect.state === "connecting") {
      this.#onReady(body);
    } else if (event === "tidings:gap") {
      this.#positions.advance(body.cursor);
      this.channels.onGap(Object(body.channels));
      this.#saveSoon();
    } else if (event === "tidings:subscribed") {
      this.channels.apply(Object(body.channels), body.cursor);
    } else if (event === "tidings:unsubscribed") {
      this.#deny(body.channels);
    } else if (event === "tidings:expiring") {
      // After a delay: an application that returns the same token again would otherwise be called in a loop.
      this.#refresh.schedule(SHORT_DELAY_MS);
    } else {
      // Join and leave events have a cursor, as publications do.
      this.#positions.advance(values[2]);
    }
  }

  /** @type {LinkListener["onEvent"]} */
  #onPublication(event, [data, channel, cursor]) {
    const listeners = this.channels.get(/** @type {string} */ (channel))?.listeners;
    if (typeof channel !== "string" || typeof cursor !== "string") {
      this.report(new TidingsError("bad_packet", "A malformed publication."));
    } else if (!listeners) {
      this.#positions.advance(cursor);
    } else if (this.#positions.accept(channel, cursor)) {
      const meta = { event, channel, cursor };
      listeners.emit(event, data, meta);
      listeners.emit("*", data, meta);
    }
    this.#saveSoon();
  }

  /** @type {(...args: Parameters<LinkListener["onEvent"]>) => boolean} false: a listener has closed the hub */
  #setUser(event, [ready]) {
    if (event !== "tidings:ready") {
      return true;
    }
    const lastUser = this.#lastUser;
    const { user } = Object(ready);
    this.#lastUser = this.user = this.outbox.likelyUser = user;
    // Without tokens, which only `--dev` allows, every connection has a new anonymous user.
    if (this.#tokens.areUsed) {
      applyUser(this, Object(ready), lastUser);
    }
    return this.user === user;
  }

  /** @param {any} ready the body of `tidings:ready` */
  #onReady(ready) {
    this.#timers.cancel("attempt");
    this.#positions.advance(ready.cursor);
    this.error = undefined;
    this.#reports.onConnected();
    this.#refresh.setLink(this.#link);
    this.#refresh.schedule(this.#tokens.accept(ready.expires_in_s));
    this.reconnect.onReady(this.environment.nowMs());
    this.#emitState();
    this.channels.onReady(Object(ready.channels), ready.cursor);
    this.#requests.setLink(this.#link);
    this.#subscribe();
    this.outbox.setLink(this.#link);
    this.#saveSoon();
  }

  /** @param {CloseReason} reason */
  #onLost(reason) {
    if (needsNewToken(reason)) {
      this.#tokens.forget();
    }
    const isReported = isFailure(reason, this.reconnect.state === "connected");
    const retryMs = this.reconnect.onLost(reason, this.environment.nowMs());
    const { code = reason.refused ? "disconnected" : "unreachable", message, cause } = reason;
    const error = new TidingsError(code, message ?? "The hub closed the connection.", { cause });
    if (retryMs === undefined) {
      this.#close(error);
    } else {
      this.error = error;
      this.#dropLink();
      this.#timers.set("retry", retryMs, () => this.reconnect.apply("retry") && this.#open());
      this.#emitState();
    }
    this.#reports.reportFailure(isReported ? error : undefined);
  }

  /** @param {TidingsError} error */
  #close(error) {
    this.error = error;
    this.user = undefined;
    this.#tokens.forget();
    this.#unwatchPage();
    this.outbox.rejectAll(error);
    this.#timers.clear();
    // Last: a listener may connect again.
    this.#dropLink(error);
    this.presenceClient?.update();
    this.#save();
    this.#emitState();
  }

  /** @param {TidingsError} [closeError] why there will be no other connection */
  #dropLink(closeError) {
    this.#attempt = {};
    this.#timers.cancel("attempt");
    this.#link?.close();
    this.#link = undefined;
    this.#refresh.setLink();
    this.outbox.setLink();
    this.#requests.setLink();
    this.channels.onLost(closeError);
    this.#setTransport();
  }

  /** @param {Transport} [name] */
  #setTransport(name) {
    if (name) {
      this.reconnect.onTransport(name);
    }
    this.transport = name;
    this.listeners.emit("transport", name);
  }

  /** @param {unknown} names channels that the new token does not cover, or that a backend unsubscribed */
  #deny(names) {
    this.channels.deny(Array.isArray(names) ? names : [], new TidingsError("forbidden", "No longer allowed."));
  }

  #subscribe() {
    this.presenceClient?.update();
    void this.#requests.send();
  }

  #saveSoon() {
    this.#timers.setOnce("save", SHORT_DELAY_MS, () => this.#save());
  }

  #save() {
    const { cursor } = this.#positions;
    if (cursor !== undefined) {
      this.environment.save({ cursor, channels: this.channels.recoverableNames, user: this.#lastUser });
    }
  }

  #emitState() {
    this.listeners.emit("state", this.reconnect.state, this.error);
  }
}
