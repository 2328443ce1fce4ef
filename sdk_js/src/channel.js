import { Presence } from "./presence.js";

/**
 * @typedef {import("./core/error.js").TidingsError} TidingsError
 * @typedef {import("./core/subscriptions.js").ChannelState} ChannelState
 */

/**
 * @typedef {object} Meta
 * @property {string} event
 * @property {string} channel
 * @property {string} cursor the publication's place; opaque
 */

/**
 * @typedef {object} Receipt
 * @property {string} id
 * @property {string} cursor
 * @property {boolean} duplicate whether a publication with this id was there already
 */

/**
 * @typedef {object} Kept a publication from the channel's history
 * @property {string} event
 * @property {any} data
 * @property {string} id
 * @property {string} cursor
 * @property {number} atMs when it was published, milliseconds since 1970
 */

/**
 * What a channel tells by itself. `tidings:state`: its state and, if it is `denied`, the error. `tidings:recovered`:
 * the connection was away and everything missed follows. `tidings:gap`: something is missing; load the data anew.
 *
 * @typedef {{
 *   "tidings:state": (state: ChannelState, error: TidingsError | undefined) => void,
 *   "tidings:recovered": (channel: string) => void,
 *   "tidings:gap": (channel: string) => void,
 * }} Told
 */

/**
 * What listens to an event of a channel.
 *
 * @template {object} Events
 * @template {(keyof Events & string) | "*" | keyof Told} Event
 * @typedef {Event extends keyof Told ? Told[Event]
 *   : (data: Event extends keyof Events ? Events[Event] : Events[keyof Events], meta: Meta) => void} Handler
 */

/**
 * One channel. It is subscribed to while somebody listens to anything of it.
 *
 * @template {object} [Events=Record<string, any>] what data each event has
 */
export class Channel {
  #session;

  /**
   * @param {string} name
   * @param {import("./hub.js").Hub} hub
   * @param {import("./session.js").Session} session
   */
  constructor(name, hub, session) {
    /** @readonly */
    this.name = name;
    /** @readonly */
    this.hub = hub;
    this.#session = session;
  }

  /** @returns {ChannelState} */
  get state() {
    return this.#session.subscriptions.get(this.name)?.state ?? "idle";
  }

  /** @returns {TidingsError | undefined} why it is `denied` */
  get error() {
    return this.#session.subscriptions.get(this.name)?.error;
  }

  /**
   * Listens to one event, to all of the application's with `*`, or to what the channel tells by itself.
   *
   * @template {(keyof Events & string) | "*" | keyof Told} Event
   * @param {Event} event
   * @param {Handler<Events, Event>} listener
   * @returns {() => void} ends it
   */
  on(event, listener) {
    const session = this.#session;
    const off = session.subscriptions.want(this.name).listeners.on(event, listener);
    session.changed();
    return () => {
      off();
      session.changed();
    };
  }

  /** @returns {Presence} who is in the channel, where the namespace has `presence` */
  presence() {
    return new Presence(this, this.#session);
  }

  /**
   * Publishes, where the namespace lets subscribers. Without a connection it waits for one.
   *
   * @template {keyof Events & string} Event
   * @param {Event} event
   * @param {Events[Event]} data anything that JSON can say
   * @param {{id?: string}} [options] `id`: the same id again within 5 minutes is not published again
   * @returns {Promise<Receipt>} rejects with a TidingsError; with `timeout` nobody knows whether it was published
   */
  async publish(event, data, { id = newId() } = {}) {
    return this.#request("tidings:publish", { channel: this.name, event, data, id });
  }

  /**
   * Publications that the hub keeps: the last `limit`, or the first `limit` after `since`; oldest first.
   *
   * @param {{limit?: number, since?: string}} [options]
   * @returns {Promise<Kept[]>}
   */
  async history({ limit = 100, since } = {}) {
    const { publications } = await this.#request("tidings:history", { channel: this.name, limit, since });
    return publications.map((/** @type {Kept & {at_ms: number}} */ { at_ms: atMs, ...one }) => ({ ...one, atMs }));
  }

  /**
   * @param {string} event
   * @param {object} body
   * @returns {Promise<any>}
   */
  async #request(event, body) {
    const { error, outbox } = this.#session;
    if (error !== undefined) {
      throw error;
    }
    return outbox.request(event, body);
  }
}

/** @returns {string} 128 bits from the system; `crypto.randomUUID` is not there on pages without TLS */
function newId() {
  return crypto.getRandomValues(new Uint32Array(4)).join("-");
}
