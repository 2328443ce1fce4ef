import { errorFrom } from "./error.js";
import { Listeners } from "./listeners.js";

/**
 * @typedef {import("./error.js").TidingsError} TidingsError
 * @typedef {import("./positions.js").Positions} Positions
 * @typedef {"idle" | "subscribing" | "subscribed" | "denied"} ChannelState
 */

/**
 * One channel that somebody listens to, or has just stopped listening to. `known`: what it missed can be asked
 * for, since
 * it was subscribed under the present cursor; `joined`: this connection has it; `asked`: the hub has not answered
 * yet.
 *
 * @typedef {object} Subscription
 * @property {string} name
 * @property {Listeners} listeners
 * @property {ChannelState} state
 * @property {TidingsError | undefined} error
 * @property {boolean} known
 * @property {boolean} joined
 * @property {boolean} asked
 * @property {import("./roll.js").Present | undefined} present who is in it, where somebody wants to know
 */

const USER = "user:";

/** Which channels are wanted, which are granted, and what has to be said to the hub and to listeners about it. */
export class Subscriptions {
  /** @type {Map<string, Subscription>} */
  #all = new Map();
  /** @type {Set<string>} what the hub subscribes by itself */
  #own = new Set();
  /** @type {Set<string>} what an earlier page had */
  #kept;
  #positions;

  /**
   * @param {Positions} positions
   * @param {Iterable<string>} kept names of an earlier page's channels
   */
  constructor(positions, kept) {
    this.#positions = positions;
    this.#kept = new Set(kept);
  }

  /**
   * @param {string} name
   * @returns {Subscription | undefined}
   */
  get(name) {
    return this.#all.get(name);
  }

  /** @returns {Subscription[]} */
  get all() {
    return [...this.#all.values()];
  }

  /** @returns {string[]} the channels whose past can be asked for */
  get names() {
    return this.all.filter((one) => one.known).map((one) => one.name);
  }

  /**
   * Somebody listens, or will at once.
   *
   * @param {string} name
   * @returns {Subscription}
   */
  want(name) {
    const one = this.#all.get(name) ?? {
      name,
      listeners: new Listeners(),
      /** @type {ChannelState} */
      state: "subscribing",
      error: undefined,
      known: this.#kept.delete(name),
      joined: false,
      asked: false,
      present: undefined,
    };
    this.#all.set(name, one);
    return one;
  }

  /**
   * What CONNECT asks for: with a cursor only what was there before, since nobody missed anything of the rest.
   *
   * @returns {string[]}
   */
  atConnect() {
    const all = this.#positions.cursor === undefined;
    return this.all
      .filter((one) => one.listeners.size > 0 && !one.name.startsWith(USER) && (all || one.known))
      .map((one) => one.name);
  }

  /** The connection is gone. */
  lost() {
    this.#own.clear();
    for (const one of this.all) {
      one.joined = false;
      one.asked = false;
      if (one.listeners.size === 0) {
        this.#drop(one);
      } else {
        this.#enter(one, "subscribing");
      }
    }
  }

  /**
   * What `tidings:ready` says.
   *
   * @param {object} answers by channel
   * @param {unknown} cursor
   */
  ready(answers, cursor) {
    this.#own = new Set(Object.keys(answers).filter((name) => name.startsWith(USER)));
    // The cursor goes on from here without them, so that later nobody could say what they missed.
    this.#kept.clear();
    for (const one of this.all) {
      one.known &&= Object.hasOwn(answers, one.name);
    }
    this.answered(answers, cursor);
  }

  /**
   * The hub's answer for some channels: `{"recovered": bool}` or `{"error": {…}}` for each.
   *
   * @param {object} answers
   * @param {unknown} cursor where a fresh subscription begins
   */
  answered(answers, cursor) {
    for (const [name, answer] of Object.entries(answers)) {
      const one = this.#all.get(name);
      if (one !== undefined) {
        this.#settle(one, Object(answer), cursor);
      }
    }
  }

  /**
   * The hub lost something of these channels.
   *
   * @param {object} answers
   */
  gap(answers) {
    for (const name of Object.keys(answers)) {
      const one = this.#all.get(name);
      if (one?.known === true) {
        one.listeners.emit("tidings:gap", name);
      }
    }
  }

  /**
   * These channels cannot be had.
   *
   * @param {string[]} names
   * @param {TidingsError} error
   */
  deny(names, error) {
    for (const name of names) {
      const one = this.#all.get(name);
      if (one !== undefined) {
        Object.assign(one, { asked: false, known: false, joined: false });
        this.#enter(one, "denied", error);
      }
    }
  }

  /** A new token may allow what the old one did not. */
  hope() {
    for (const one of this.all) {
      if (one.state === "denied") {
        this.#enter(one, "subscribing");
      }
    }
  }

  /**
   * What to ask of the hub now. It counts as asked.
   *
   * @returns {{subscribe: string[], unsubscribe: string[]}}
   */
  plan() {
    /** @type {string[]} */
    const subscribe = [];
    /** @type {string[]} */
    const unsubscribe = [];
    for (const one of this.all.filter((each) => !each.asked)) {
      const own = this.#own.has(one.name);
      if (one.listeners.size === 0) {
        if (one.joined && !own) {
          unsubscribe.push(one.name);
        }
        this.#drop(one);
      } else if (one.state === "subscribing" && own) {
        this.#settle(one, {}, undefined);
      } else if (one.state === "subscribing") {
        one.asked = true;
        subscribe.push(one.name);
      }
    }
    return { subscribe, unsubscribe };
  }

  /** @param {Subscription} one */
  #drop(one) {
    this.#all.delete(one.name);
    this.#positions.forget(one.name);
  }

  /**
   * @param {Subscription} one
   * @param {{recovered?: unknown, error?: unknown}} answer
   * @param {unknown} cursor
   */
  #settle(one, answer, cursor) {
    if (answer.error !== undefined) {
      this.deny([one.name], errorFrom(Object(answer.error)));
      return;
    }
    const before = one.known;
    const recovered = answer.recovered === true;
    Object.assign(one, { asked: false, joined: true, known: true });
    if (!recovered) {
      this.#positions.startAt(one.name, cursor);
    }
    this.#enter(one, "subscribed");
    if (before) {
      one.listeners.emit(recovered ? "tidings:recovered" : "tidings:gap", one.name);
    }
  }

  /**
   * @param {Subscription} one
   * @param {ChannelState} state
   * @param {TidingsError} [error]
   */
  #enter(one, state, error) {
    if (one.state !== state) {
      one.state = state;
      one.error = error;
      one.listeners.emit("tidings:state", state, error);
    }
  }
}
