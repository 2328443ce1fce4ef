import { errorFrom } from "./error.js";
import { Positions } from "./positions.js";

/**
 * @typedef {import("./error.js").TidingsError} TidingsError
 * @typedef {import("./subscriptions.js").ChannelState} ChannelState
 */

/**
 * @typedef {object} Member
 * @property {string} user
 * @property {Readonly<Record<string, any>> | null} info what the backend wrote into this user's token
 */

/**
 * @typedef {object} Present who is in a channel. Never changes; a change makes a new one
 * @property {readonly Readonly<Member>[] | null} members null: more than the hub lists (`presence_list_max`)
 * @property {number} count how many they are, also where they are not listed
 * @property {"loading" | "ready" | "failed"} state `failed`: the hub does not say who is there
 * @property {TidingsError | undefined} error why
 */

/** @typedef {{joined: Readonly<Member>[], left: Readonly<Member>[]}} Moves who came and who went */

/**
 * The members of one channel, and what has to be asked of the hub so that they are right (PROTOCOL.md section 5).
 */
export class Roll {
  /** What the present questions are known by: answers to earlier ones are of no use. */
  turn = {};
  /** @type {ChannelState} */
  #seen = "idle";
  /** @type {"away" | "due" | "asked" | "granted" | "refused"} joins and leaves, on the present connection */
  #place = "away";
  /** @type {Map<string, Readonly<Member>> | null | undefined} null: too many; undefined: not known */
  #list;
  #right = false;
  #loading = false;
  #count = 0;
  #positions = new Positions(undefined);
  /** @type {Present} */
  snapshot;

  /** @param {Present} snapshot what is shown until more is known */
  constructor(snapshot) {
    this.snapshot = snapshot;
  }

  /** @returns {boolean} whether there is a list that a return may find to be right still */
  get isKnown() {
    return this.#list !== undefined;
  }

  /** @returns {boolean} whether the present connection gets joins and leaves */
  get isGranted() {
    return this.#place === "granted";
  }

  /**
   * The channel's own state. Without the channel there are no joins and leaves of it.
   *
   * @param {ChannelState} state
   * @param {TidingsError | undefined} error
   */
  see(state, error) {
    if (state === this.#seen) {
      return;
    }
    this.#seen = state;
    if (state !== "subscribed") {
      this.#place = "away";
      this.#begin();
    } else if (this.#place === "away") {
      this.#place = "due";
    }
    if (state === "denied") {
      this.#lose(error);
    }
  }

  /**
   * What the hub says of joins and leaves: in `tidings:ready`, `tidings:gap` or an acknowledgement.
   *
   * @param {{recovered?: unknown, error?: unknown}} answer
   */
  answered(answer) {
    this.#begin();
    if (answer.error !== undefined) {
      this.#place = "refused";
      this.#lose(errorFrom(Object(answer.error)));
    } else {
      this.#place = "granted";
      this.#right &&= answer.recovered === true;
    }
  }

  /**
   * What to ask now. It counts as asked.
   *
   * @returns {"watch" | "load" | undefined} for joins and leaves; for the list
   */
  next() {
    if (this.#place === "due") {
      this.#place = "asked";
      return "watch";
    }
    if (this.#place === "granted" && !this.#right && !this.#loading) {
      this.#loading = true;
      return "load";
    }
    return undefined;
  }

  /**
   * There is no answer, for now. What was shown stays, until `again` was called and asking has succeeded.
   *
   * @param {TidingsError} error
   */
  failed(error) {
    this.#show("failed", error);
  }

  /** What was not answered is to be asked again. */
  again() {
    this.#begin();
    if (this.#place === "asked") {
      this.#place = "due";
    }
  }

  /**
   * The answer to `tidings:presence`. It is never older than the joins and leaves before it.
   *
   * @param {{cursor?: unknown, count?: unknown, members?: unknown}} answer
   * @returns {Moves} since the list before; nobody if there was none
   */
  loaded({ cursor, count, members }) {
    const before = this.#list;
    const list = members === null ? null : new Map(listOf(members).map((said) => memberOf(Object(said))));
    this.#positions.startAt("", cursor);
    this.#list = list;
    this.#right = true;
    this.#loading = false;
    this.#count = Number(count);
    this.#show("ready");
    return before && list
      ? { joined: without(list, before), left: without(before, list) }
      : { joined: [], left: [] };
  }

  /**
   * `tidings:join`, `tidings:leave` or `tidings:stats`.
   *
   * @param {string} event
   * @param {{members?: unknown, users?: unknown, count?: unknown, listed?: unknown}} data
   * @param {unknown} cursor
   * @returns {Moves | undefined} undefined: nothing has changed
   */
  hear(event, data, cursor) {
    // Before there is a list it changes nothing: the answer that is to come has it.
    if (!this.#positions.startAt("", cursor) || this.#list === undefined) {
      return undefined;
    }
    const moves = event === "tidings:stats" ? this.#tally(data) : this.#move(data);
    if (moves !== undefined) {
      this.#count = Number(data.count);
      this.#show(this.snapshot.state, this.snapshot.error);
    }
    return moves;
  }

  /** @param {{listed?: unknown}} data */
  #tally({ listed }) {
    this.#list = null;
    this.#right = listed !== true;
    return { joined: [], left: [] };
  }

  /** @param {{members?: unknown, users?: unknown}} data */
  #move({ members, users }) {
    const list = this.#list;
    if (!list) {
      return undefined;
    }
    const came = new Map(listOf(members).map((said) => memberOf(Object(said))));
    const joined = without(came, list);
    came.forEach((member, user) => list.set(user, member));
    const left = listOf(users).flatMap((user) => list.get(user) ?? []);
    left.forEach(({ user }) => list.delete(user));
    return { joined, left };
  }

  #begin() {
    this.turn = {};
    this.#loading = false;
  }

  /** @param {TidingsError | undefined} error */
  #lose(error) {
    this.#list = undefined;
    this.#right = false;
    this.#count = 0;
    this.#show("failed", error);
  }

  /**
   * @param {Present["state"]} state
   * @param {TidingsError} [error]
   */
  #show(state, error) {
    const members = this.#list === null ? null : Object.freeze([...(this.#list?.values() ?? [])]);
    this.snapshot = Object.freeze({ members, count: this.#count, state, error });
  }
}

/**
 * @param {unknown} said
 * @returns {any[]}
 */
function listOf(said) {
  return Array.isArray(said) ? said : [];
}

/**
 * @param {{user?: unknown, info?: unknown}} said
 * @returns {[string, Readonly<Member>]}
 */
function memberOf({ user, info }) {
  const name = String(user);
  const shown = typeof info === "object" ? /** @type {Member["info"]} */ (info) : null;
  return [name, Object.freeze({ user: name, info: shown })];
}

/**
 * @param {Map<string, Readonly<Member>>} list
 * @param {Map<string, Readonly<Member>>} other
 * @returns {Readonly<Member>[]} who is in `list` alone
 */
function without(list, other) {
  return [...list.values()].filter(({ user }) => !other.has(user));
}
