// A hub and its channels. They share a file because the public type of each refers to the other.
import { Collection } from "./collection.js";
import { TidingsError } from "./core/error.js";
import { checkJson } from "./core/json.js";
import { checkChannel } from "./core/names.js";
import { Presence } from "./presence.js";

/**
 * @typedef {import("./core/reconnect.js").State} State
 * @typedef {import("./core/reconnect.js").Transport} Transport
 * @typedef {import("./core/subscriptions.js").ChannelState} ChannelState
 * @typedef {import("./channel_types.js").ChannelEvents} ChannelEvents
 * @typedef {import("./channel_types.js").HistoryEntry} HistoryEntry
 * @typedef {import("./channel_types.js").Receipt} Receipt
 * @typedef {import("./session.js").Session} Session
 */

/**
 * @template {object} Events
 * @template {(keyof Events & string) | "*" | keyof ChannelEvents} Event
 * @typedef {import("./channel_types.js").Handler<Events, Event>} Handler
 */

/**
 * @typedef {object} HubEvents
 * @property {(state: State, error: TidingsError | undefined) => void} state `error`: why it is `waiting` or `closed`
 * @property {(transport: Transport | undefined) => void} transport the transport in use from now on
 * @property {(error: TidingsError) => void} error an error that is not the result of a call
 */

/**
 * One channel. It is subscribed while it has listeners.
 *
 * @template {object} [Events=Record<string, any>] the data of each event
 */
export class Channel {
  #session;

  /**
   * @param {string} name
   * @param {Hub} hub
   * @param {Session} session
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
    return this.#session.channels.get(this.name)?.state ?? "idle";
  }

  /** @returns {TidingsError | undefined} why it is `denied`, or `idle` because the hub is closed */
  get error() {
    return this.#session.channels.get(this.name)?.error;
  }

  /**
   * Adds a listener for one event, for all of the application's events (`*`), or for an event of the channel itself.
   *
   * @template {(keyof Events & string) | "*" | keyof ChannelEvents} Event
   * @param {Event} event
   * @param {Handler<Events, Event>} listener
   * @returns {() => void} removes the listener
   */
  on(event, listener) {
    const session = this.#session;
    const off = session.channels.ensure(this.name).listeners.on(event, listener);
    session.subscribeSoon();
    return () => {
      off();
      session.subscribeSoon();
    };
  }

  /** @returns {Presence} the channel's members, if its namespace has `presence` */
  presence() {
    return new Presence(this, this.#session);
  }

  /**
   * Publishes, if the namespace allows it for subscribers. Without a connection it waits for one.
   *
   * @template {keyof Events & string} Event
   * @param {Event} event
   * @param {Events[Event]} data any value that JSON can represent
   * @param {{id?: string | undefined}} [options] `id`: a repetition of an id within 5 minutes is not published again
   * @returns {Promise<Receipt>} rejects with a TidingsError; after `timeout` it may or may not have been published
   */
  async publish(event, data, { id = newId() } = {}) {
    const body = { channel: this.name, event, data, id };
    checkJson(body);
    const { keptQueue, outbox } = this.#session;
    const { visit } = outbox;
    const queue = keptQueue && (await keptQueue);
    if (visit.error) {
      throw visit.error;
    }
    return this.#request("tidings:publish", body, queue || undefined);
  }

  /**
   * Publications from the hub's history: the last `limit`, or the first `limit` after `since`; oldest first.
   *
   * @param {{limit?: number | undefined, since?: string | undefined}} [options]
   * @returns {Promise<HistoryEntry[]>}
   */
  async history({ limit = 100, since } = {}) {
    const { publications } = await this.#request("tidings:history", { channel: this.name, limit, since });
    return publications.map((/** @type {any} */ { at_ms: atMs, ...publication }) => ({ ...publication, atMs }));
  }

  /**
   * @param {string} event
   * @param {object} body
   * @param {{publish: (body: object) => Promise<any>}} [queue] sends the request instead of the outbox
   * @returns {Promise<any>}
   */
  async #request(event, body, queue) {
    const { error, outbox, reconnect } = this.#session;
    if (error && reconnect.state === "closed") {
      throw error;
    }
    return queue ? queue.publish(body) : outbox.request(event, body);
  }
}

/** One connection to a hub, for all channels of a page. */
export class Hub {
  #session;

  /** @param {Session} session */
  constructor(session) {
    this.#session = session;
  }

  /** @returns {State} */
  get state() {
    return this.#session.reconnect.state;
  }

  /** @returns {TidingsError | undefined} why there is no connection: the last attempt, the hub or `close` ended it */
  get error() {
    return this.#session.error;
  }

  /** @returns {Transport | undefined} the transport in use */
  get transport() {
    return this.#session.transport;
  }

  /** @returns {string | undefined} the user's id at the hub, known once connected */
  get user() {
    const { user, outbox } = this.#session;
    // The next connection may be that of another user already.
    return [undefined, user].includes(outbox.user) ? user : undefined;
  }

  /**
   * @template {keyof HubEvents} Event
   * @param {Event} event
   * @param {HubEvents[Event]} listener
   * @returns {() => void} removes the listener
   */
  on(event, listener) {
    return this.#session.listeners.on(event, listener);
  }

  /**
   * A channel of the hub. It is subscribed while it has listeners.
   *
   * @template {object} [Events=Record<string, any>]
   * @param {string} name
   * @returns {Channel<Events>}
   * @throws {TidingsError} `bad_channel`
   */
  channel(name) {
    return new Channel(checkChannel(name), this, this.#session);
  }

  /**
   * A list that stays up to date: the counterpart of the backend's `push_model`.
   *
   * @template {object} Model
   * @param {string} name the models' class, such as `Order`
   * @param {import("./collection.js").CollectionOptions<Model>} options
   * @returns {Collection<Model>}
   * @throws {TidingsError} `bad_channel`, or `bad_option` without a function `load`
   */
  collection(name, options) {
    if (typeof Object(options).load !== "function") {
      throw new TidingsError("bad_option", "load is missing: it returns the models.");
    }
    const { environment, report } = this.#session;
    return new Collection(name, this.channel(options.channel), options, environment, report);
  }

  /**
   * Follows a background job of the application's backend (docs/background-jobs.md). Its code is loaded here.
   *
   * @param {string | URL} location what the backend returned as `Location`
   * @param {import("./job.js").JobOptions} [options]
   * @returns {Promise<import("./job.js").Job>}
   */
  job(location, options) {
    const session = this.#session;
    const { visit } = session.outbox;
    return session.environment.parts.job().then(({ Job }) => new Job(location, this, session, visit, options));
  }

  /**
   * The user's inbox (docs/notifications.md), or the part of it that the options name. Its code is loaded here.
   *
   * @param {import("./inbox.js").InboxOptions} [options]
   * @returns {Promise<import("./inbox.js").Inbox>}
   */
  inbox(options) {
    return this.#session.environment.parts.inbox().then(({ Inbox }) => new Inbox(this, this.#session, options));
  }

  /**
   * Web Push for this browser (docs/notifications.md). Its code is loaded here, so call it before the click that
   * enables it.
   *
   * @param {import("./push.js").PushOptions} [options]
   * @returns {Promise<import("./push.js").Push>}
   */
  push(options = {}) {
    const session = this.#session;
    return session.environment.parts.push().then(({ Push }) => new Push(this, session, options).open());
  }

  /** Connects again after `close` or a refusal. If the hub is `waiting` to retry, it retries immediately. */
  connect() {
    this.#session.start();
  }

  /** Closes the connection until `connect`. Waiting requests are rejected with `closed`. */
  close() {
    this.#session.stop();
  }
}

/** @returns {string} 128 random bits; pages without TLS have no `crypto.randomUUID`, React Native has no `crypto` */
function newId() {
  const words = new Uint32Array(4);
  return (globalThis.crypto?.getRandomValues(words) ?? words.map(() => Math.random() * 2 ** 32)).join("-");
}
