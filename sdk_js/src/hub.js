import { Channel } from "./channel.js";
import { Collection } from "./collection.js";
import { checkChannel } from "./core/names.js";

/**
 * @typedef {import("./core/error.js").TidingsError} TidingsError
 * @typedef {import("./core/course.js").State} State
 * @typedef {import("./core/course.js").Transport} Transport
 */

/**
 * @typedef {object} Options
 * @property {(() => string | null | undefined | Promise<string | null | undefined>) | undefined} [getToken] a token
 *   for the present user: asked for before a connect and before the last one ends. Nothing means signed out: the
 *   connection closes
 * @property {readonly Transport[]} [transports] in the order in which to try them; one alone forces it. WebSocket
 *   first,
 *   then long polling, if not given
 * @property {string} [keepAs] recover what was missed across reloads of the page in this tab, under this name in
 *   sessionStorage
 * @property {number} [queueMax] requests that may wait for an answer; a further one is rejected with `queue_full`.
 *   100 if
 *   not given, which is less than a hub takes at once
 * @property {number} [requestTimeoutMs] how long a request may take, waiting for a connection included, before it is
 *   rejected with `timeout`; 30,000 if not given
 * @property {boolean | string} [shareTabs] all tabs of this origin with the same address and the same value here use
 *   one connection, with the token of one of them; a user's id keeps users apart
 */

/**
 * @typedef {object} HubEvents
 * @property {(state: State, error: TidingsError | undefined) => void} state `error`: why it is `closed`
 * @property {(transport: Transport | undefined) => void} transport what the connection uses from now on
 * @property {(error: TidingsError) => void} error what went wrong and is not the answer to a call
 */

/** One connection to a hub, for all channels of a page. */
export class Hub {
  #session;

  /** @param {import("./session.js").Session} session */
  constructor(session) {
    this.#session = session;
  }

  /** @returns {State} */
  get state() {
    return this.#session.course.state;
  }

  /** @returns {TidingsError | undefined} why it is `closed` */
  get error() {
    return this.#session.error;
  }

  /** @returns {Transport | undefined} what the connection uses now */
  get transport() {
    return this.#session.transport;
  }

  /** @returns {string | undefined} whom the hub knows us as, once it has said so */
  get user() {
    return this.#session.user;
  }

  /**
   * @template {keyof HubEvents} Event
   * @param {Event} event
   * @param {HubEvents[Event]} listener
   * @returns {() => void} ends it
   */
  on(event, listener) {
    return this.#session.listeners.on(event, listener);
  }

  /**
   * A channel of the hub. It is subscribed to while somebody listens.
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
   * A list that keeps itself up to date: the counterpart of the backend's `push_model`.
   *
   * @template {object} Model
   * @param {string} name the models' class, such as `Order`
   * @param {import("./collection.js").CollectionOptions<Model>} options
   * @returns {Collection<Model>}
   */
  collection(name, options) {
    return new Collection(name, this.channel(options.channel), options, this.#session.world);
  }

  /** Connects again after `close` or a refusal; at once, where it waits to try again. */
  connect() {
    this.#session.begin();
  }

  /** Ends the connection until `connect`. What waits for an answer is rejected with `closed`. */
  close() {
    this.#session.end();
  }
}
