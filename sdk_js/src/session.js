import { COME_BACK } from "./core/codes.js";
import { Course } from "./core/course.js";
import { errorFrom, TidingsError } from "./core/error.js";
import { Listeners } from "./core/listeners.js";
import { Positions } from "./core/positions.js";
import { Subscriptions } from "./core/subscriptions.js";
import { Outbox } from "./outbox.js";
import { ask, NO_ANSWER } from "./socket.js";
import { Timers } from "./timers.js";
import { Tokens } from "./tokens.js";

/**
 * @typedef {import("./socket.js").Link} Link
 * @typedef {import("./world.js").World} World
 */

const SOON_MS = 1000;
const AGAIN_MS = 5000;

/** What a connection stands for across its interruptions: does what the core decides. */
export class Session {
  listeners = new Listeners();
  /** @type {import("./core/course.js").Transport | undefined} */
  transport;
  /** @type {string | undefined} */
  user;
  /** @type {TidingsError | undefined} */
  error;
  /** @type {import("./attendance.js").Attendance | undefined} asks who is in channels; loaded for the first presence */
  attendance;
  /** @type {Promise<void> | undefined} its loading */
  attending;
  /** @type {Link | undefined} */
  #link;
  /** What the present attempt is known by: what was asked for an earlier one is of no use. */
  #attempt = {};
  #unwatch = () => {};
  #timers;
  #tokens;
  #positions;

  /**
   * @param {World} world
   * @param {import("./hub.js").Options} options
   */
  constructor(world, options) {
    this.world = world;
    this.course = new Course(options.transports ?? ["websocket", "polling"], world.random);
    this.#positions = new Positions(world.kept.cursor);
    this.subscriptions = new Subscriptions(this.#positions, world.kept.channels);
    this.#timers = new Timers(world.after);
    this.outbox = new Outbox(world, options.queueMax, options.requestTimeoutMs);
    this.#tokens = new Tokens(options.getToken, world, (error) => this.listeners.emit("error", error));
  }

  /** Connects, unless it is about to. */
  begin() {
    if (this.course.begin()) {
      this.#unwatch();
      this.#unwatch = this.world.watch(
        () => this.course.see("wake") && this.#open(),
        () => this.#keep(),
      );
      void this.#open();
    }
  }

  /** Ends it, and rejects what waits. */
  end() {
    if (this.course.see("end")) {
      this.#end(new TidingsError("closed", "Closed by the application."));
    }
  }

  /** Somebody listens to a channel, or no longer does. What changes in one go is said to the hub in one go. */
  changed() {
    this.#timers.set("subscribe", 0, () => this.#subscribe());
  }

  async #open() {
    const attempt = {};
    this.#attempt = attempt;
    this.error = undefined;
    this.#timers.cancel("retry");
    this.#timers.set("attempt", this.course.attemptMs, () => this.#lost({ message: "No answer in time." }));
    this.#tellState();
    const token = await this.#tokens.have();
    if (this.#attempt !== attempt) {
      return;
    }
    if (typeof token === "object") {
      this.#lost(token);
      return;
    }
    const link = await this.world.open(this.course.transports, {
      auth: () => this.#auth(),
      event: (event, values) => this.#event(event, values),
      transport: (name) => {
        this.transport = name;
        this.course.over(name);
        this.listeners.emit("transport", name);
      },
      lost: (how) => this.#lost(how),
    });
    if (this.#attempt === attempt) {
      this.#link = link;
    } else {
      link.close();
    }
  }

  #auth() {
    const [presence, channels] = [this.attendance?.names, this.subscriptions.atConnect()];
    // Positions are kept here, and each connection is a new socket: the hub need not keep the session.
    return { channels, presence, pid: null, token: this.#tokens.offer(), since: this.#positions.cursor };
  }

  /**
   * @param {string} event
   * @param {unknown[]} values
   */
  #event(event, values) {
    const said = Object(values[0]);
    this.attendance?.hear(event, values);
    if (!event.startsWith("tidings:")) {
      this.#publication(event, values);
    } else if (event === "tidings:ready" && this.course.state === "connecting") {
      this.#ready(said);
    } else if (event === "tidings:gap") {
      this.#positions.remember(said.cursor);
      this.subscriptions.gap(Object(said.channels));
      this.#keepSoon();
    } else if (event === "tidings:unsubscribed") {
      this.#forbid(said.channels);
    } else if (event === "tidings:expiring") {
      // Not at once: an application that gives the same token again would be asked without end.
      this.#renewIn(SOON_MS);
    } else {
      // Joins and leaves are numbered like publications.
      this.#positions.remember(values[2]);
    }
  }

  /**
   * @param {string} event
   * @param {unknown[]} values
   */
  #publication(event, [data, channel, cursor]) {
    if (typeof channel !== "string" || typeof cursor !== "string") {
      this.listeners.emit("error", new TidingsError("bad_packet", "No publication."));
      return;
    }
    const listeners = this.subscriptions.get(channel)?.listeners;
    if (listeners === undefined) {
      this.#positions.remember(cursor);
    } else if (this.#positions.take(channel, cursor)) {
      const meta = { event, channel, cursor };
      listeners.emit(event, data, meta);
      listeners.emit("*", data, meta);
    }
    this.#keepSoon();
  }

  /** @param {any} said */
  #ready(said) {
    this.#timers.cancel("attempt");
    this.#positions.remember(said.cursor);
    this.user = said.user;
    this.#renewIn(this.#tokens.holds(said.expires_in_s));
    this.course.ready(this.world.nowMs());
    this.#tellState();
    this.subscriptions.ready(Object(said.channels), said.cursor);
    void this.#subscribe();
    this.outbox.use(this.#link);
    this.#keepSoon();
  }

  /** @param {import("./core/codes.js").End} end */
  #lost(end) {
    if (end.code === "expired") {
      this.#tokens.offer();
    }
    const inMs = this.course.lost(end, this.world.nowMs());
    if (inMs === undefined) {
      this.#end(new TidingsError(end.code ?? "disconnected", end.message ?? "The hub closed the connection."));
      return;
    }
    this.#unlink();
    this.#timers.set("retry", inMs, () => this.course.see("due") && this.#open());
    this.#tellState();
  }

  /** @param {TidingsError} error */
  #end(error) {
    this.error = error;
    this.#unwatch();
    this.#unlink();
    this.outbox.fail(error);
    this.#timers.clear();
    this.#keep();
    this.#tellState();
  }

  #unlink() {
    this.#attempt = {};
    this.#timers.cancel("attempt");
    this.#timers.cancel("refresh");
    this.#link?.close();
    this.#link = undefined;
    this.outbox.use(undefined);
    this.subscriptions.lost();
    this.transport = undefined;
    this.listeners.emit("transport", undefined);
  }

  /** @param {number | undefined} inMs undefined: there is no need */
  #renewIn(inMs) {
    if (inMs !== undefined) {
      this.#timers.set("refresh", inMs, () => this.#renew());
    }
  }

  /** @param {unknown} names channels that the new token does not cover, or that a backend took away */
  #forbid(names) {
    this.subscriptions.deny(Array.isArray(names) ? names : [], new TidingsError("forbidden", "No longer allowed."));
  }

  async #renew() {
    const link = this.#link;
    if (link === undefined) {
      return;
    }
    const token = await this.#tokens.renew();
    const answer = typeof token === "string" ? await ask(link, "tidings:refresh", { token }) : NO_ANSWER;
    if (link !== this.#link) {
      return;
    }
    if (answer === NO_ANSWER) {
      if (typeof token === "object" && token.refused) {
        this.#lost(token);
      } else {
        this.#renewIn(AGAIN_MS * this.world.random());
      }
    } else if (answer.error === undefined) {
      this.#renewIn(this.#tokens.holds(answer.expires_in_s));
      this.#forbid(answer.left);
      this.subscriptions.hope();
      void this.#subscribe();
    } else {
      // Of another user, or not wanted: a new connection shows what it is good for.
      this.#lost({ code: "disconnected" });
    }
  }

  async #subscribe() {
    this.attendance?.plan();
    const link = this.#link;
    if (link === undefined || this.course.state !== "connected") {
      return;
    }
    const { subscribe, unsubscribe } = this.subscriptions.plan();
    if (unsubscribe.length > 0) {
      void ask(link, "tidings:unsubscribe", { channels: unsubscribe });
    }
    if (subscribe.length === 0) {
      return;
    }
    const answer = await ask(link, "tidings:subscribe", { channels: subscribe });
    if (link !== this.#link) {
      return;
    }
    const error = answer.error && errorFrom(answer.error);
    if (error === undefined) {
      this.subscriptions.answered(Object(answer.channels), answer.cursor);
      this.changed();
    } else if (COME_BACK.has(error.code)) {
      // Not now: if the link has ended, it is about to say why, and perhaps that nobody should come back.
      this.#timers.set("attempt", 0, () => this.#lost(error));
    } else {
      this.subscriptions.deny(subscribe, error);
    }
  }

  #keepSoon() {
    if (!this.#timers.has("keep")) {
      this.#timers.set("keep", SOON_MS, () => this.#keep());
    }
  }

  #keep() {
    const { cursor } = this.#positions;
    if (cursor !== undefined) {
      this.world.keep({ cursor, channels: this.subscriptions.names });
    }
  }

  #tellState() {
    this.listeners.emit("state", this.course.state, this.error);
  }
}
