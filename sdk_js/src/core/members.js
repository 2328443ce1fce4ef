import { errorFrom } from "./error.js";
import { Positions } from "./positions.js";
import { NOT_LOADED } from "./presence_snapshot.js";

/**
 * @typedef {import("./error.js").TidingsError} TidingsError
 * @typedef {import("./presence_snapshot.js").Member} Member
 * @typedef {import("./presence_snapshot.js").PresenceSnapshot} PresenceSnapshot
 * @typedef {import("./subscriptions.js").ChannelState} ChannelState
 */

/** @typedef {{joined: Readonly<Member>[], left: Readonly<Member>[]}} MemberChanges */

/**
 * The members of one channel, and which request to send next to keep them correct (PROTOCOL.md section 5).
 */
export class MemberList {
  /** Identifies the current round of requests. A response to a request of an earlier round is ignored. */
  attempt = {};
  /** @type {ChannelState} */
  #channelState = "idle";
  /** @type {"inactive" | "due" | "requested" | "granted" | "refused"} join and leave events on this connection */
  #eventsState = "inactive";
  /** @type {Map<string, Readonly<Member>> | null | undefined} null: too many to list; undefined: not loaded */
  #members;
  #isCurrent = false;
  #isLoading = false;
  #count = 0;
  #positions = new Positions(undefined);
  snapshot = NOT_LOADED;

  /** @returns {boolean} whether there is a list, which recovery can confirm after a reconnect */
  get hasList() {
    return this.#members !== undefined;
  }

  /** @returns {boolean} whether this connection receives join and leave events */
  get receivesEvents() {
    return this.#eventsState === "granted";
  }

  /**
   * Applies the state of the channel. Join and leave events need a subscription to the channel itself.
   *
   * @param {ChannelState} state
   * @param {TidingsError | undefined} error
   */
  onChannelState(state, error) {
    if (state === this.#channelState) {
      return;
    }
    this.#channelState = state;
    if (state !== "subscribed") {
      this.#eventsState = "inactive";
      this.#startAttempt();
    } else if (this.#eventsState === "inactive") {
      this.#eventsState = "due";
    }
    if (state === "denied" || state === "idle") {
      this.#clear(error);
    }
  }

  /**
   * Applies the hub's result for join and leave events: from `tidings:ready`, `tidings:gap` or an acknowledgement.
   *
   * @param {{recovered?: unknown, error?: unknown}} result
   */
  onSubscribeResult(result) {
    this.#startAttempt();
    if (result.error !== undefined) {
      this.#eventsState = "refused";
      this.#clear(errorFrom(Object(result.error)));
    } else {
      this.#eventsState = "granted";
      this.#isCurrent &&= result.recovered === true;
    }
  }

  /**
   * The request to send now, which counts as sent from then on.
   *
   * @returns {"subscribe" | "load" | undefined} to join and leave events; the list
   */
  takeRequest() {
    if (this.#eventsState === "due") {
      this.#eventsState = "requested";
      return "subscribe";
    }
    if (this.#eventsState === "granted" && !this.#isCurrent && !this.#isLoading) {
      this.#isLoading = true;
      return "load";
    }
    return undefined;
  }

  /**
   * A request failed temporarily. The snapshot keeps its members until a request after `retry` succeeds.
   *
   * @param {TidingsError} error
   */
  onRequestFailed(error) {
    this.#setSnapshot("failed", error);
  }

  /** Makes the unanswered requests due again. */
  retry() {
    this.#startAttempt();
    if (this.#eventsState === "requested") {
      this.#eventsState = "due";
    }
  }

  /**
   * Applies the response to `tidings:presence`. It is never older than the join and leave events before it.
   *
   * @param {{cursor?: unknown, count?: unknown, members?: unknown}} response
   * @returns {MemberChanges} the changes since the previous list; none if there was no list
   */
  onLoaded({ cursor, count, members }) {
    const previous = this.#members;
    const loaded = members === null ? null : membersByUser(members);
    this.#positions.advanceChannel("", cursor);
    this.#members = loaded;
    this.#isCurrent = true;
    this.#isLoading = false;
    this.#count = Number(count);
    this.#setSnapshot("ready");
    return previous && loaded
      ? { joined: difference(loaded, previous), left: difference(previous, loaded) }
      : { joined: [], left: [] };
  }

  /**
   * Applies `tidings:join`, `tidings:leave` or `tidings:stats`.
   *
   * @param {string} event
   * @param {{members?: unknown, users?: unknown, count?: unknown, listed?: unknown}} data
   * @param {unknown} cursor
   * @returns {MemberChanges | undefined} undefined: nothing changed
   */
  onEvent(event, data, cursor) {
    // Before the first list, an event changes nothing: the response to come includes it.
    if (!this.#positions.advanceChannel("", cursor) || this.#members === undefined) {
      return undefined;
    }
    const changes = event === "tidings:stats" ? this.#applyStats(data) : this.#applyChanges(data);
    if (changes !== undefined) {
      this.#count = Number(data.count);
      this.#setSnapshot(this.snapshot.state, this.snapshot.error);
    }
    return changes;
  }

  /** @param {{listed?: unknown}} data */
  #applyStats({ listed }) {
    this.#members = null;
    this.#isCurrent = listed !== true;
    return { joined: [], left: [] };
  }

  /** @param {{members?: unknown, users?: unknown}} data */
  #applyChanges({ members, users }) {
    const current = this.#members;
    if (!current) {
      return undefined;
    }
    const joining = membersByUser(members);
    const joined = difference(joining, current);
    joining.forEach((member, user) => current.set(user, member));
    const left = arrayOf(users).flatMap((user) => current.get(user) ?? []);
    left.forEach(({ user }) => current.delete(user));
    return { joined, left };
  }

  #startAttempt() {
    this.attempt = {};
    this.#isLoading = false;
  }

  /** @param {TidingsError | undefined} error */
  #clear(error) {
    this.#members = undefined;
    this.#isCurrent = false;
    this.#count = 0;
    if (error?.code === "closed") {
      this.snapshot = NOT_LOADED;
    } else {
      this.#setSnapshot("failed", error);
    }
  }

  /**
   * @param {PresenceSnapshot["state"]} state
   * @param {TidingsError} [error]
   */
  #setSnapshot(state, error) {
    const members = this.#members === null ? null : Object.freeze([...(this.#members?.values() ?? [])]);
    this.snapshot = Object.freeze({ members, count: this.#count, state, error });
  }
}

/**
 * @param {unknown} value
 * @returns {any[]} `value` if it is an array, otherwise an empty one
 */
function arrayOf(value) {
  return Array.isArray(value) ? value : [];
}

/**
 * @param {unknown} members as the hub sends them
 * @returns {Map<string, Readonly<Member>>}
 */
function membersByUser(members) {
  return new Map(arrayOf(members).map((member) => memberEntry(Object(member))));
}

/**
 * @param {{user?: unknown, info?: unknown}} member
 * @returns {[string, Readonly<Member>]}
 */
function memberEntry({ user, info }) {
  const name = String(user);
  const checkedInfo = typeof info === "object" ? /** @type {Member["info"]} */ (info) : null;
  return [name, Object.freeze({ user: name, info: checkedInfo })];
}

/**
 * @param {Map<string, Readonly<Member>>} members
 * @param {Map<string, Readonly<Member>>} others
 * @returns {Readonly<Member>[]} the members that are not in `others`
 */
function difference(members, others) {
  return [...members.values()].filter(({ user }) => !others.has(user));
}
