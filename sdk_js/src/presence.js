import { TidingsError } from "./core/error.js";

/**
 * @typedef {import("./core/roll.js").Member} Member
 * @typedef {import("./core/roll.js").Present} Present
 */

/**
 * `join` and `leave`: a member who comes or goes from now on, or did while the connection was away. Nobody joins who is
 * in the first list, and nobody where the members are not listed.
 *
 * @typedef {object} PresenceEvents
 * @property {(present: Present) => void} change
 * @property {(member: Readonly<Member>) => void} join
 * @property {(member: Readonly<Member>) => void} leave
 */

/** @type {Present} */
export const UNKNOWN = Object.freeze({ members: Object.freeze([]), count: 0, state: "loading", error: undefined });

const AGAIN_MS = 5000;

/**
 * Who is in a channel. It is asked for while somebody listens, and then the channel is subscribed to. `subscribe` and
 * `getSnapshot` are what React's `useSyncExternalStore` takes; `subscribe` alone is a Svelte store.
 */
export class Presence {
  #channel;
  #session;

  /**
   * @param {import("./channel.js").Channel<any>} channel
   * @param {import("./session.js").Session} session
   */
  constructor(channel, session) {
    this.#channel = channel;
    this.#session = session;
  }

  // These two are handed over as functions, so they cannot rely on `this`.

  /** @returns {Present} the same one until something changes */
  getSnapshot = () => this.#session.subscriptions.get(this.#channel.name)?.present ?? UNKNOWN;

  /**
   * Calls `tell` now and after each change.
   *
   * @param {(present: Present) => void} tell
   * @returns {() => void} ends it
   */
  subscribe = (tell) => {
    const off = this.on("change", tell);
    tell(this.getSnapshot());
    return off;
  };

  /**
   * @template {keyof PresenceEvents} Event
   * @param {Event} event
   * @param {PresenceEvents[Event]} listener
   * @returns {() => void} ends it
   */
  on(event, listener) {
    attend(this.#session);
    return this.#channel.on(`tidings:${event}`, /** @type {any} */ (listener));
  }
}

/**
 * What asks the hub is loaded when somebody first wants to know; it is tried until it is there.
 *
 * @param {import("./session.js").Session} session
 */
function attend(session) {
  session.attending ??= import("./attendance.js").then(
    ({ Attendance }) => {
      session.attendance = new Attendance(session);
      session.changed();
    },
    (cause) => {
      session.listeners.emit("error", new TidingsError("not_loaded", "Presence was not loaded.", { cause }));
      session.world.after(() => {
        session.attending = undefined;
        attend(session);
      }, AGAIN_MS);
    },
  );
}
