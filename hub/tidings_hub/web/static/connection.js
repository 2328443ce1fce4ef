/**
 * The page's connection: one hub of the JavaScript SDK, from which it hears one channel.
 *
 * @typedef {import("tidings").Hub} Hub
 * @typedef {import("tidings").Kept} Kept
 * @typedef {import("tidings").Meta} Meta
 * @typedef {import("tidings").TidingsError} TidingsError
 * @typedef {import("tidings").Transport} Transport
 * @typedef {object} Listener
 * @property {(hub: Hub) => void} state the hub's is another one now
 * @property {(name: Transport | undefined) => void} transport undefined: none
 * @property {(data: unknown, meta: Meta) => void} publication
 * @property {(complete: boolean) => void} returned `complete`: all that was missed follows; otherwise something is lost
 * @property {(error: TidingsError) => void} trouble
 */

// What /tidings.js, a script before this one, has left.
/** @type {typeof import("tidings")} */
const { connect } = Reflect.get(globalThis, "tidings");
/** Where the cursor is kept: each hub that the page makes goes on from there, also after a reload. */
const KEEP_AS = "tidings-page";

export class Connection {
  /** @type {Hub | undefined} */
  #hub;
  #off = () => {};
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

  /** @returns {boolean} whether it stays away: by the user's wish, or because the hub refused it */
  get cut() {
    return this.#hub?.state === "closed";
  }

  /** Connects, or comes back with the last cursor. */
  connect() {
    const hub = connect(location.origin, { keepAs: KEEP_AS, transports: this.#transports });
    hub.on("state", () => this.#listener.state(hub));
    hub.on("transport", this.#listener.transport);
    hub.on("error", this.#listener.trouble);
    this.#hub = hub;
    this.#hear(hub);
    this.#listener.state(hub);
  }

  /** Cuts the connection until `connect`. */
  close() {
    this.#hub?.close();
  }

  /**
   * Connects again with or without WebSocket.
   *
   * @param {boolean} only
   */
  pollingOnly(only) {
    this.#transports = only ? ["polling"] : ["websocket", "polling"];
    if (!this.cut) {
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
      this.#off();
      this.#hear(this.#hub);
    }
  }

  /**
   * The last publications of the channel that the hub keeps.
   *
   * @param {number} limit
   * @returns {Promise<Kept[]>}
   */
  async newest(limit) {
    return (await this.#hub?.channel(this.channel).history({ limit })) ?? [];
  }

  /** @param {Hub} hub */
  #hear(hub) {
    const channel = hub.channel(this.channel);
    const offs = [
      channel.on("*", (data, meta) => this.#listener.publication(data, meta)),
      channel.on("tidings:recovered", () => this.#listener.returned(true)),
      channel.on("tidings:gap", () => this.#listener.returned(false)),
      channel.on("tidings:state", (_state, error) => error && this.#listener.trouble(error)),
    ];
    this.#off = () => offs.forEach((off) => off());
  }
}
