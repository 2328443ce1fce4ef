// A hub in memory, as PROTOCOL.md section 5 has it: one sequence, a history of so many publications per channel, and
// connections that take time and can be cut.

/** @typedef {{seq: number, event: string, data: unknown}} Publication */

/**
 * `lagMs`: how much later than others a connection hears; `may`: whether a token covers a channel.
 *
 * @typedef {{delayMs?: () => number, lagMs?: () => number, history?: number, may?: (token: any, channel: string) =>
 *   boolean}} HubOptions
 */

class Connection {
  channels = new Set();
  presence = new Set();
  isOver = false;
  /** @type {Map<string, {name: string, publication: Publication}[]>} what is held back while a channel is joined */
  #held = new Map();
  #lastMs = { in: 0, out: 0 };
  #lagMs;
  #asking = Promise.resolve();
  /** @type {any} what CONNECT said, with the present token */
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
    this.#travel("in", () =>
      this.#travel("out", () => {
        listener.transport(/** @type {any} */ (transport));
        const auth = JSON.parse(JSON.stringify(listener.auth()));
        this.#travel("in", () => this.#connect(auth));
      }),
    );
  }

  /**
   * In the order of sending.
   *
   * @param {"in" | "out"} way
   * @param {() => void} arrive
   */
  #travel(way, arrive) {
    const { clock } = this.hub;
    const lagMs = way === "out" ? this.#lagMs : 0;
    const atMs = Math.max(clock.nowMs + this.hub.delayMs() + lagMs, this.#lastMs[way]);
    this.#lastMs[way] = atMs;
    clock.after(() => this.isOver || arrive(), atMs - clock.nowMs);
  }

  /** @param {any} auth */
  async #connect(auth) {
    this.#auth = auth;
    this.hub.connections.add(this);
    this.hub.opened += 1;
    await this.#join(["user:7", ...auth.channels], auth.presence, auth.since, (said) => {
      const cursor = said.missed && auth.since ? auth.since : said.cursor;
      this.say("tidings:ready", { user: "7", connection: "c", expires_in_s: 100, ...said.answers, cursor });
    });
  }

  /**
   * @param {string[]} names
   * @param {string[] | undefined} watched
   * @param {string | undefined} since
   * @param {(said: {answers: any, cursor: string, missed: boolean}) => void} first said before what was missed
   */
  async #join(names, watched = [], since, first = () => {}) {
    const { hub } = this;
    const refused = names.filter((name) => !hub.may(this.#auth, name));
    const wanted = names.filter((name) => !refused.includes(name));
    for (const name of wanted) {
      // Begins anew, without the joins and leaves.
      this.channels.delete(name);
      this.presence.delete(name);
      this.#held.set(name, []);
    }
    await new Promise((resolve) => {
      hub.clock.after(() => resolve(undefined), hub.delayMs());
    });
    const [epoch, from] = since === undefined ? [] : since.split(".");
    /** @type {Record<string, object>} */
    const channels = Object.fromEntries(refused.map((name) => [name, { error: { code: "forbidden", message: "" } }]));
    /** @type {{name: string, publication: Publication}[]} */
    const past = [];
    const later = wanted.flatMap((name) => this.#held.get(name) ?? []);
    for (const name of wanted) {
      const { kept, firstSeq } = hub.channel(name);
      const recovered = epoch === hub.epoch && Number(from) + 1 >= firstSeq;
      channels[name] = { recovered };
      past.push(
        ...kept.filter(({ seq }) => recovered && seq > Number(from)).map((publication) => ({ name, publication })),
      );
      this.channels.add(name);
      this.#held.delete(name);
    }
    past.sort((a, b) => a.publication.seq - b.publication.seq);
    const presence = Object.fromEntries(watched.map((name) => [name, { recovered: since !== undefined }]));
    watched.forEach((name) => this.presence.add(name));
    const answers = { channels, presence };
    first({ answers, cursor: hub.cursor, missed: past.length > 0 });
    for (const { name, publication } of since === undefined ? later : past) {
      this.#tell(name, publication);
    }
    return { cursor: hub.cursor, ...answers };
  }

  /**
   * @param {string} name
   * @param {Publication} publication
   */
  publication(name, publication) {
    this.#held.get(name)?.push({ name, publication });
    if (this.channels.has(name)) {
      this.#tell(name, publication);
    }
  }

  /**
   * @param {string} name
   * @param {Publication} publication
   */
  #tell(name, { event, data, seq }) {
    this.say(event, data, name, `${this.hub.epoch}.${seq}`);
  }

  /**
   * @param {string} event
   * @param {unknown[]} values
   */
  say(event, ...values) {
    this.#travel("out", () => this.listener.event(event, structuredClone(values)));
  }

  /**
   * @param {string} event
   * @param {any} body
   * @returns {Promise<unknown>}
   */
  ask(event, body) {
    return new Promise((resolve) => {
      const asked = JSON.parse(JSON.stringify(body));
      this.#travel("in", () => {
        this.#asking = this.#asking.then(async () => {
          const answer = await this.#answer(event, asked);
          this.#travel("out", () => resolve(answer));
        });
      });
    });
  }

  /**
   * @param {string} event
   * @param {any} body
   * @returns {Promise<any>}
   */
  async #answer(event, body) {
    if (event === "tidings:subscribe") {
      return this.#join(body.channels, body.presence, body.since);
    }
    if (event === "tidings:unsubscribe") {
      body.channels.forEach((/** @type {string} */ name) => this.channels.delete(name) && this.presence.delete(name));
      return {};
    }
    if (event === "tidings:refresh") {
      this.#auth = { ...this.#auth, token: body.token };
      const left = [...this.channels].filter((name) => !this.hub.may(this.#auth, name));
      left.forEach((name) => this.channels.delete(name));
      return { expires_in_s: 100, left };
    }
    const before = this.hub.ids.get(body.id);
    const seq = before ?? this.hub.publish(body.channel, body.event, body.data);
    this.hub.ids.set(body.id, seq);
    return { id: body.id, cursor: `${this.hub.epoch}.${seq}`, duplicate: before !== undefined };
  }

  /** @param {import("../src/core/codes.js").End} end */
  cut(end) {
    if (!this.isOver) {
      this.close();
      this.listener.lost(end);
    }
  }

  close() {
    this.isOver = true;
    this.hub.connections.delete(this);
  }
}

export class MemoryHub {
  epoch = "e";
  seq = 0;
  /** @type {Set<Connection>} */
  connections = new Set();
  /** How many connections there were. */
  opened = 0;
  /** @type {Map<string, number>} seq by id of what clients published */
  ids = new Map();
  /** @type {Map<string, {kept: Publication[], firstSeq: number}>} `firstSeq`: nothing from here on was forgotten */
  #channels = new Map();

  /**
   * @param {import("./pair.js").TestClock} clock
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
    const found = this.#channels.get(name) ?? { kept: [], firstSeq: 0 };
    this.#channels.set(name, found);
    return found;
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
    channel.kept.push(publication);
    while (channel.kept.length > this.history) {
      channel.firstSeq = Number(channel.kept.shift()?.seq) + 1;
    }
    for (const connection of this.connections) {
      connection.publication(name, publication);
    }
    return this.seq;
  }

  /** @type {(transports: string[], listener: import("../src/socket.js").LinkListener) => Connection} */
  open = (transports, listener) => new Connection(this, transports[0], listener);

  /** Ends all connections. @param {import("../src/core/codes.js").End} [end] */
  cut(end = {}) {
    this.connections.forEach((connection) => connection.cut(end));
  }
}
