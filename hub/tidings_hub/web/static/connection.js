/**
 * The page's connection: one hub object of the JavaScript SDK, with the listeners of one channel.
 *
 * @typedef {import("tidings").Hub} Hub
 * @typedef {import("tidings").Kept} HistoryEntry
 * @typedef {import("tidings").Meta} Meta
 * @typedef {import("tidings").TidingsError} TidingsError
 * @typedef {import("tidings").Transport} Transport
 * @typedef {object} Listener
 * @property {(hub: Hub) => void} onState the hub's state changed
 * @property {(name: Transport | undefined) => void} onTransport undefined: no connection
 * @property {(data: unknown, meta: Meta) => void} onPublication
 * @property {(recovered: boolean) => void} onReconnect `recovered`: all missed publications follow; otherwise some are
 *   lost
 * @property {(error: TidingsError) => void} onError
 */

// The script /tidings.js, which the page loads before this module, defines this global.
/** @type {typeof import("tidings")} */
const { connect } = Reflect.get(globalThis, "tidings");
/** The key in sessionStorage for the cursor: a new hub object recovers from it, also after a reload. */
const KEEP_AS = "tidings-page";

export class Connection {
  /** @type {Hub | undefined} */
  #hub;
  #removeListeners = () => {};
  #listener;
  /** @type {readonly Transport[]} */
  #transports = ["websocket", "polling"];

  /**
   * @param {string} channel
   * @param {Listener} listener
   */
  constructor(channel, listener) {
    this.channel = channel;
    this.#listener = listener;
  }

  /** @returns {boolean} whether the user or the hub closed it, so that it does not reconnect */
  get isClosed() {
    return this.#hub?.state === "closed";
  }

  /** Connects, from the last cursor if there is one. */
  connect() {
    const hub = connect(location.origin, { keepAs: KEEP_AS, transports: this.#transports });
    hub.on("state", () => this.#listener.onState(hub));
    hub.on("transport", this.#listener.onTransport);
    hub.on("error", this.#listener.onError);
    this.#hub = hub;
    this.#listen(hub);
    this.#listener.onState(hub);
  }

  /** Closes the connection until `connect`. */
  close() {
    this.#hub?.close();
  }

  /**
   * Reconnects with or without WebSocket.
   *
   * @param {boolean} isPollingOnly
   */
  setPollingOnly(isPollingOnly) {
    this.#transports = isPollingOnly ? ["polling"] : ["websocket", "polling"];
    if (!this.isClosed) {
      this.close();
      this.connect();
    }
  }

  /**
   * Listens to another channel instead.
   *
   * @param {string} channel
   */
  switchTo(channel) {
    this.channel = channel;
    if (this.#hub !== undefined) {
      this.#removeListeners();
      this.#listen(this.#hub);
    }
  }

  /**
   * The latest publications from the channel's history.
   *
   * @param {number} limit
   * @returns {Promise<HistoryEntry[]>}
   */
  async history(limit) {
    return (await this.#hub?.channel(this.channel).history({ limit })) ?? [];
  }

  /** @param {Hub} hub */
  #listen(hub) {
    const channel = hub.channel(this.channel);
    const removers = [
      channel.on("*", (data, meta) => this.#listener.onPublication(data, meta)),
      channel.on("tidings:recovered", () => this.#listener.onReconnect(true)),
      channel.on("tidings:gap", () => this.#listener.onReconnect(false)),
      channel.on("tidings:state", (_state, error) => error && this.#listener.onError(error)),
    ];
    this.#removeListeners = () => removers.forEach((remove) => remove());
  }
}
