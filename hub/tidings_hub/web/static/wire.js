import { io } from "./vendor/socket.io.esm.min.js";

/**
 * The page's connection to the hub: a stock socket.io-client and the events of PROTOCOL.md section 5.
 *
 * @typedef {{recovered?: boolean, error?: {code: string, message: string}}} ChannelAnswer
 * @typedef {{cursor: string, channels: Record<string, ChannelAnswer>}} Joined
 * @typedef {Joined & {user: string}} Ready
 * @typedef {object} Listener
 * @property {(state: "connecting" | "connected" | "cut" | "refused", text: string) => void} state
 * @property {(name: string) => void} transport empty: none
 * @property {(ready: Ready, returned: boolean) => void} ready `returned`: a cursor was sent
 * @property {(event: string, data: unknown, channel: string, cursor: string) => void} publication
 * @property {(channels: string[]) => void} gap these channels miss something
 * @property {(cursor: string) => void} cursor
 * @property {(message: string) => void} trouble
 */

const ACK_TIMEOUT_MS = 5000;
const BOTH = ["polling", "websocket"];
const POLLING = ["polling"];

export class Wire {
  /** @type {string | undefined} where to go on from */
  #cursor;
  #sentCursor = false;
  /** The user's own wish; nothing reconnects against it. */
  #cut = false;

  /**
   * @param {string} channel
   * @param {Listener} listener
   */
  constructor(channel, listener) {
    this.channel = channel;
    this.listener = listener;
    this.socket = io({
      autoConnect: false,
      transports: BOTH,
      reconnectionDelay: 300,
      reconnectionDelayMax: 3000,
      auth: (answer) => {
        this.#sentCursor = this.#cursor !== undefined;
        answer(this.#sentCursor ? { channels: [this.channel], since: this.#cursor } : { channels: [this.channel] });
      },
    });
    this.#listen();
  }

  /** Connects, or comes back with the last cursor. */
  connect() {
    this.#cut = false;
    this.listener.state("connecting", "Connecting…");
    this.socket.connect();
  }

  /** Cuts the connection until `connect`. */
  disconnect() {
    this.#cut = true;
    this.socket.disconnect();
    this.listener.transport("");
    this.listener.state("cut", "Disconnected by you");
  }

  /**
   * Connects again with or without WebSocket.
   *
   * @param {boolean} only
   */
  pollingOnly(only) {
    this.socket.io.opts.transports = only ? [...POLLING] : [...BOTH];
    if (!this.#cut) {
      this.socket.disconnect();
      this.connect();
    }
  }

  /**
   * Listens to another channel instead.
   *
   * @param {string} channel
   * @returns {Promise<void>} rejects with what the hub said against it
   */
  async switchTo(channel) {
    const old = this.channel;
    if (channel === old) {
      return;
    }
    if (!this.socket.connected) {
      this.channel = channel;
      return;
    }
    /** @type {Joined & {error?: {message: string}}} */
    const answer = await this.#ask("tidings:subscribe", channel);
    const refusal = answer.error ?? answer.channels[channel]?.error;
    if (refusal !== undefined) {
      throw new Error(refusal.message);
    }
    this.channel = channel;
    this.#remember(answer.cursor);
    await this.#ask("tidings:unsubscribe", old);
  }

  /**
   * @param {string} event
   * @param {string} channel
   * @returns {Promise<any>} the hub's acknowledgement
   */
  #ask(event, channel) {
    return this.socket.timeout(ACK_TIMEOUT_MS).emitWithAck(event, { channels: [channel] });
  }

  #listen() {
    const { socket, listener } = this;
    socket.on("connect", () => {
      listener.state("connected", "Connected");
      this.#watchTransport();
    });
    socket.on("tidings:ready", (/** @type {Ready} */ ready) => {
      const answer = ready.channels[this.channel];
      // What was missed comes after this: its publications move the cursor, not the answer.
      if (!this.#sentCursor || answer?.recovered !== true) {
        this.#remember(ready.cursor);
      }
      listener.ready(ready, this.#sentCursor);
    });
    socket.on("tidings:gap", (/** @type {Joined} */ gap) => {
      this.#remember(gap.cursor);
      listener.gap(Object.keys(gap.channels));
    });
    socket.on("tidings:close", (/** @type {{code: string, message: string}} */ said) => {
      listener.trouble(`${said.message} (${said.code})`);
    });
    socket.onAny((event, data, channel, cursor) => {
      if (typeof channel === "string" && typeof cursor === "string" && !event.startsWith("tidings:")) {
        this.#remember(cursor);
        listener.publication(event, data, channel, cursor);
      }
    });
    socket.on("disconnect", (reason) => {
      listener.transport("");
      if (!this.#cut && reason === "io server disconnect") {
        listener.state("cut", "Disconnected by the hub");
      } else if (!this.#cut) {
        listener.state("connecting", "Connection lost, trying again…");
      }
    });
    socket.on("connect_error", (error) => this.#failed(error));
    socket.io.on("reconnect_attempt", (attempt) => listener.state("connecting", `Connecting, attempt ${attempt}…`));
  }

  /** @param {Error & {data?: {code?: string}}} error */
  #failed(error) {
    if (this.socket.active) {
      this.listener.state("connecting", "No hub there, trying again…");
    } else {
      this.listener.state("refused", "Refused by the hub");
      this.listener.trouble(`${error.message} (${error.data?.code ?? "unknown"})`);
    }
  }

  #watchTransport() {
    const { engine } = this.socket.io;
    this.listener.transport(engine.transport.name);
    engine.on("upgrade", (transport) => this.listener.transport(transport.name));
  }

  /** @param {string} cursor */
  #remember(cursor) {
    this.#cursor = cursor;
    this.listener.cursor(cursor);
  }
}
