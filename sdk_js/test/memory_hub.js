// A hub in memory (PROTOCOL.md section 5): one sequence, a bounded history per channel, and connections that have
// delays and can be closed.

/** @typedef {{seq: number, event: string, data: unknown}} Publication */

/**
 * `lagMs`: how much later than other connections one receives events; `may`: whether a token covers a channel.
 *
 * @typedef {{delayMs?: () => number, lagMs?: () => number, history?: number, may?: (auth: any, channel: string) =>
 *   boolean}} HubOptions
 */

/**
 * @param {string | undefined} token
 * @returns {string} the user of a token made by `tokenFor`; of any other one "7"
 */
function userOf(token = "") {
  const [, claims] = token.split(".");
  return claims ? JSON.parse(Buffer.from(claims, "base64url").toString()).sub : "7";
}

/**
 * @param {string} sub the user
 * @returns {string} a JWT without a signature
 */
export function tokenFor(sub) {
  return `h.${Buffer.from(JSON.stringify({ sub })).toString("base64url")}.s`;
}

class Connection {
  channels = new Set();
  presence = new Set();
  isClosed = false;
  /** @type {Map<string, {name: string, publication: Publication}[]>} publications held back during a subscribe */
  #held = new Map();
  #lastMs = { in: 0, out: 0 };
  #lagMs;
  #lastRequest = Promise.resolve();
  /** @type {any} the payload of CONNECT, with the current token */
  #auth;

  /**
   * @param {MemoryHub} hub
   * @param {string} transport
   * @param {import("../src/socket.js").LinkListener} listener
   */
  constructor(hub, transport, listener) {
    this.hub = hub;
    this.listener = listener;
    this.#lagMs = hub.lagMs();
    this.#transmit("in", () =>
      this.#transmit("out", () => {
        listener.onTransport(/** @type {any} */ (transport));
        const auth = JSON.parse(JSON.stringify(listener.auth()));
        this.#transmit("in", () => this.#connect(auth));
      }),
    );
  }

  /**
   * Calls `onArrival` after a delay, in the order of sending.
   *
   * @param {"in" | "out"} direction
   * @param {() => void} onArrival
   */
  #transmit(direction, onArrival) {
    const { clock } = this.hub;
    const lagMs = direction === "out" ? this.#lagMs : 0;
    const atMs = Math.max(clock.nowMs + this.hub.delayMs() + lagMs, this.#lastMs[direction]);
    this.#lastMs[direction] = atMs;
    clock.setTimer(() => this.isClosed || onArrival(), atMs - clock.nowMs);
  }

  /** @param {any} auth */
  async #connect(auth) {
    this.#auth = auth;
    this.hub.connections.add(this);
    this.hub.openedCount += 1;
    const user = userOf(auth.token);
    const channels = [`user:${user}`, ...auth.channels];
    await this.#join(channels, auth.presence, auth.since, ({ results, cursor, hasMissed }) => {
      const readyCursor = hasMissed && auth.since ? auth.since : cursor;
      const ready = { user, connection: "c", expires_in_s: 100, ...results, cursor: readyCursor };
      this.emit("tidings:ready", ready);
    });
  }

  /**
   * @param {string[]} names
   * @param {string[] | undefined} presenceNames
   * @param {string | undefined} since
   * @param {(join: {results: any, cursor: string, hasMissed: boolean}) => void} onJoined called before the missed
   *   publications are sent
   */
  async #join(names, presenceNames = [], since, onJoined = () => {}) {
    const { hub } = this;
    const refused = names.filter((name) => !hub.may(this.#auth, name));
    const allowed = names.filter((name) => !refused.includes(name));
    for (const name of allowed) {
      // The subscription restarts, without join and leave events.
      this.channels.delete(name);
      this.presence.delete(name);
      this.#held.set(name, []);
    }
    await new Promise((resolve) => {
      hub.clock.setTimer(() => resolve(undefined), hub.delayMs());
    });
    const [epoch, from] = since === undefined ? [] : since.split(".");
    /** @type {Record<string, object>} */
    const channels = Object.fromEntries(refused.map((name) => [name, { error: { code: "forbidden", message: "" } }]));
    /** @type {{name: string, publication: Publication}[]} */
    const missed = [];
    const held = allowed.flatMap((name) => this.#held.get(name) ?? []);
    for (const name of allowed) {
      const { history, firstSeq } = hub.channel(name);
      const recovered = epoch === hub.epoch && Number(from) + 1 >= firstSeq;
      channels[name] = { recovered };
      missed.push(
        ...history.filter(({ seq }) => recovered && seq > Number(from)).map((publication) => ({ name, publication })),
      );
      this.channels.add(name);
      this.#held.delete(name);
    }
    missed.sort((a, b) => a.publication.seq - b.publication.seq);
    const presence = Object.fromEntries(presenceNames.map((name) => [name, { recovered: since !== undefined }]));
    presenceNames.forEach((name) => this.presence.add(name));
    const results = { channels, presence };
    onJoined({ results, cursor: hub.cursor, hasMissed: missed.length > 0 });
    for (const { name, publication } of since === undefined ? held : missed) {
      this.#deliver(name, publication);
    }
    return { cursor: hub.cursor, ...results };
  }

  /**
   * @param {string} name
   * @param {Publication} publication
   */
  onPublication(name, publication) {
    this.#held.get(name)?.push({ name, publication });
    if (this.channels.has(name)) {
      this.#deliver(name, publication);
    }
  }

  /**
   * @param {string} name
   * @param {Publication} publication
   */
  #deliver(name, { event, data, seq }) {
    this.emit(event, data, name, `${this.hub.epoch}.${seq}`);
  }

  /**
   * @param {string} event
   * @param {unknown[]} values
   */
  emit(event, ...values) {
    this.#transmit("out", () => this.listener.onEvent(event, structuredClone(values)));
  }

  /**
   * @param {string} event
   * @param {any} body
   * @returns {Promise<unknown>}
   */
  request(event, body) {
    return new Promise((resolve) => {
      const received = JSON.parse(JSON.stringify(body));
      this.#transmit("in", () => {
        this.#lastRequest = this.#lastRequest.then(async () => {
          const response = await this.#respond(event, received);
          this.#transmit("out", () => resolve(response));
        });
      });
    });
  }

  /**
   * @param {string} event
   * @param {any} body
   * @returns {Promise<any>}
   */
  async #respond(event, body) {
    if (event === "tidings:subscribe") {
      return this.#join(body.channels, body.presence, body.since);
    }
    if (event === "tidings:unsubscribe") {
      body.channels.forEach((/** @type {string} */ name) => this.channels.delete(name) && this.presence.delete(name));
      return {};
    }
    if (event === "tidings:refresh") {
      if (userOf(body.token) !== userOf(this.#auth.token)) {
        return { error: { code: "forbidden", message: "The token belongs to another user." } };
      }
      this.#auth = { ...this.#auth, token: body.token };
      const left = [...this.channels].filter((name) => !this.hub.may(this.#auth, name));
      left.forEach((name) => this.channels.delete(name));
      return { expires_in_s: 100, left };
    }
    const earlierSeq = this.hub.ids.get(body.id);
    const seq = earlierSeq ?? this.hub.publish(body.channel, body.event, body.data);
    this.hub.ids.set(body.id, seq);
    return { id: body.id, cursor: `${this.hub.epoch}.${seq}`, duplicate: earlierSeq !== undefined };
  }

  /** @param {import("../src/core/codes.js").CloseReason} reason */
  disconnect(reason) {
    if (!this.isClosed) {
      this.close();
      this.listener.onLost(reason);
    }
  }

  close() {
    this.isClosed = true;
    this.hub.connections.delete(this);
  }
}

export class MemoryHub {
  epoch = "e";
  seq = 0;
  /** @type {Set<Connection>} */
  connections = new Set();
  /** The number of connections so far. */
  openedCount = 0;
  /** @type {Map<string, number>} seq by id of what clients published */
  ids = new Map();
  /** @type {Map<string, {history: Publication[], firstSeq: number}>} `firstSeq`: the history is complete from here */
  #channels = new Map();

  /**
   * @param {import("./session_harness.js").TestClock} clock
   * @param {HubOptions} [options]
   */
  constructor(clock, { delayMs = () => 0, lagMs = () => 0, history = 1000, may = () => true } = {}) {
    this.clock = clock;
    this.delayMs = delayMs;
    this.lagMs = lagMs;
    this.history = history;
    this.may = may;
  }

  get cursor() {
    return `${this.epoch}.${this.seq}`;
  }

  /** @param {string} name */
  channel(name) {
    const channel = this.#channels.get(name) ?? { history: [], firstSeq: 0 };
    this.#channels.set(name, channel);
    return channel;
  }

  /**
   * @param {string} name
   * @param {string} event
   * @param {unknown} data
   * @returns {number} its seq
   */
  publish(name, event, data) {
    this.seq += 1;
    const publication = { seq: this.seq, event, data };
    const channel = this.channel(name);
    channel.history.push(publication);
    while (channel.history.length > this.history) {
      channel.firstSeq = Number(channel.history.shift()?.seq) + 1;
    }
    for (const connection of this.connections) {
      connection.onPublication(name, publication);
    }
    return this.seq;
  }

  /** @type {(transports: string[], listener: import("../src/socket.js").LinkListener) => Connection} */
  open = (transports, listener) => new Connection(this, transports[0], listener);

  /** Closes all connections. @param {import("../src/core/codes.js").CloseReason} [reason] */
  disconnectAll(reason = {}) {
    this.connections.forEach((connection) => connection.disconnect(reason));
  }
}
