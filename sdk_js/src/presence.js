import { TidingsError } from "./core/error.js";
import { NOT_LOADED } from "./core/presence_snapshot.js";

/**
 * @typedef {import("./core/presence_snapshot.js").Member} Member
 * @typedef {import("./core/presence_snapshot.js").PresenceSnapshot} PresenceSnapshot
 */

/**
 * `join` and `leave`: a member joins or leaves from now on, or did while the connection was lost. There are no such
 * events for the members of the first list, and none while the members are not listed.
 *
 * @typedef {object} PresenceEvents
 * @property {(snapshot: PresenceSnapshot) => void} change
 * @property {(member: Readonly<Member>) => void} join
 * @property {(member: Readonly<Member>) => void} leave
 */

/**
 * What presence needs of a channel.
 *
 * @typedef {object} EventSource
 * @property {string} name
 * @property {(event: any, listener: any) => () => void} on
 */

const RETRY_MS = 5000;
const EVENTS = ["tidings:change", "tidings:join", "tidings:leave"];

/**
 * The members of a channel. They are requested while there is a listener, and then the channel is subscribed. React's
 * `useSyncExternalStore` takes `subscribe`, `getSnapshot` and `getServerSnapshot`; an object with `subscribe` is a
 * Svelte store.
 */
export class Presence {
  #channel;
  #session;

  /**
   * @param {EventSource} channel
   * @param {import("./session.js").Session} session
   */
  constructor(channel, session) {
    this.#channel = channel;
    this.#session = session;
  }

  // These are passed as functions, so they cannot rely on `this`.

  /** @returns {PresenceSnapshot} the same object until something changes */
  getSnapshot = () => this.#session.channels.get(this.#channel.name)?.presence ?? NOT_LOADED;

  /** @returns {PresenceSnapshot} what a server renders: always `loading`, so each part of a page can hydrate later */
  getServerSnapshot = () => NOT_LOADED;

  /**
   * Calls `listener` now and after each change.
   *
   * @param {(snapshot: PresenceSnapshot) => void} listener
   * @returns {() => void} removes the listener
   */
  subscribe = (listener) => {
    const off = this.on("change", listener);
    listener(this.getSnapshot());
    return off;
  };

  /**
   * @template {keyof PresenceEvents} Event
   * @param {Event} event
   * @param {PresenceEvents[Event]} listener
   * @returns {() => void} removes the listener
   */
  on(event, listener) {
    loadPresenceClient(this.#session);
    return this.#channel.on(`tidings:${event}`, listener);
  }
}

/**
 * Loads the code that requests members from the hub, once per session. While there are listeners, a failed load is
 * retried.
 *
 * @param {import("./session.js").Session} session
 */
function loadPresenceClient(session) {
  session.presenceLoading ??= session.environment.parts.presence().then(
    ({ PresenceClient }) => {
      session.presenceClient = new PresenceClient(session);
      session.subscribeSoon();
    },
    (cause) => {
      session.report(new TidingsError("not_loaded", `Presence was not loaded: ${cause.message}`, { cause }));
      session.environment.setTimer(() => {
        session.presenceLoading = undefined;
        if (session.channels.all.some(({ listeners }) => EVENTS.some((event) => listeners.has(event)))) {
          loadPresenceClient(session);
        }
      }, RETRY_MS);
    },
  );
}
