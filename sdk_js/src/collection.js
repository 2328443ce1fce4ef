import { delayMs } from "./core/backoff.js";
import { Listeners } from "./core/listeners.js";

/**
 * @template {object} Model
 * @typedef {object} CollectionOptions
 * @property {(asked: {signal: AbortSignal}) => Iterable<Model> | Promise<Iterable<Model>>} load all models, as
 *   they are
 *   now; `signal` is aborted when the answer is of no use any more
 * @property {string} channel where the backend pushes them to
 * @property {string} [key] the property that tells models apart; `id` if not given
 * @property {(model: Model) => number | string | undefined} [version] of a loaded model, as the backend's `push_model`
 *   would have it;
 *   its `version` or `updated_at` if not given
 * @property {(a: Model, b: Model) => number} [sort]
 */

/**
 * @template {object} Model
 * @typedef {object} Snapshot never changes; a change makes a new one
 * @property {readonly Readonly<Model>[]} items
 * @property {"loading" | "ready" | "failed"} state `failed`: the last `load` failed and `items` are as before; it
 *   is tried again
 * @property {unknown} error what `load` threw
 */

/** @typedef {Pick<import("./world.js").World, "random" | "after">} Clock */

const EVENT = "updated_model";
/** Without a subscription in this time it is loaded all the same: an old list is better than none. */
const PATIENCE_MS = 2000;
/** Only pages with a list need it. */
const rowsModule = () => import("./core/rows.js");

/**
 * A list of models that is loaded once, follows what the backend pushes, and is loaded again when something was
 * missed.
 * It works while somebody is subscribed. `subscribe` and `getSnapshot` are what React's `useSyncExternalStore` takes;
 * `subscribe` alone is a Svelte store.
 *
 * @template {object} Model
 */
export class Collection {
  #name;
  #channel;
  #options;
  #clock;
  /** @type {import("./core/rows.js").Rows<Model> | undefined} there with the first load */
  #rows;
  #subscribers = new Listeners();
  /** @type {(() => void)[] | undefined} what ends listening to the channel, while it works */
  #offs;
  #stopping = () => {};
  #retry = () => {};
  #failures = 0;
  /** @type {AbortController | undefined} the present loading */
  #loading;
  #telling = false;
  /** @type {Snapshot<Model>} */
  #snapshot = Object.freeze({ items: Object.freeze([]), state: "loading", error: undefined });

  /**
   * @param {string} name
   * @param {import("./channel.js").Channel} channel
   * @param {CollectionOptions<Model>} options
   * @param {Clock} clock
   */
  constructor(name, channel, options, clock) {
    this.#name = name;
    this.#channel = channel;
    this.#options = options;
    this.#clock = clock;
  }

  // These two are handed over as functions, so they cannot rely on `this`.

  /** @returns {Snapshot<Model>} the same one until something changes */
  getSnapshot = () => this.#snapshot;

  /**
   * Calls `tell` now and after each change.
   *
   * @param {(snapshot: Snapshot<Model>) => void} tell
   * @returns {() => void} ends it
   */
  subscribe = (tell) => {
    const off = this.#subscribers.on("change", tell);
    this.#stopping();
    if (this.#offs === undefined) {
      this.#start();
    }
    tell(this.#snapshot);
    return () => {
      off();
      if (this.#subscribers.size === 0) {
        // A framework that draws anew unsubscribes and subscribes again: that is no reason to load again.
        this.#stopping();
        this.#stopping = this.#clock.after(() => this.#stop(), 0);
      }
    };
  };

  /** Loads everything again. */
  reload() {
    if (this.#offs !== undefined) {
      void this.#load();
    }
  }

  #start() {
    const channel = this.#channel;
    // It comes while the hub is asked. If it does not, the first load fails and is tried again.
    rowsModule().catch(() => {});
    const patience = this.#clock.after(() => void this.#load(), PATIENCE_MS);
    let known = false;
    const see = (/** @type {import("./channel.js").ChannelState} */ state) => {
      // What was loaded before the subscription may miss what came in between.
      if (!known && (state === "subscribed" || state === "denied")) {
        known = state === "subscribed";
        patience();
        this.reload();
      }
    };
    this.#offs = [
      patience,
      channel.on(EVENT, (data) => this.#change(Object(data))),
      channel.on("tidings:gap", () => this.reload()),
      channel.on("tidings:state", see),
    ];
    see(channel.state);
  }

  #stop() {
    for (const off of this.#offs ?? []) {
      off();
    }
    this.#offs = undefined;
    this.#retry();
    this.#loading?.abort();
    this.#loading = undefined;
  }

  /** @param {any} data what `push_model` sends */
  #change(data) {
    const { model, op, version } = data;
    if (data.class !== this.#name || typeof model !== "object" || model === null || version === undefined) {
      return;
    }
    // What comes before the first load is in it.
    if (this.#rows?.apply(op, model, version)) {
      this.#tellSoon();
    }
  }

  async #load() {
    this.#retry();
    this.#loading?.abort();
    const loading = new AbortController();
    this.#loading = loading;
    const { signal } = loading;
    const { key = "id", version } = this.#options;
    try {
      const { Rows, versionOf } = await rowsModule();
      signal.throwIfAborted();
      this.#rows ??= new Rows((model) => /** @type {Record<string, unknown>} */ (model)[key], version ?? versionOf);
      this.#rows.begin();
      const models = [...(await this.#options.load({ signal }))];
      if (this.#loading === loading) {
        this.#rows.load(models);
        this.#failures = 0;
        this.#become("ready", undefined);
      }
    } catch (error) {
      if (this.#loading === loading) {
        this.#retry = this.#clock.after(() => void this.#load(), delayMs(this.#failures, this.#clock.random));
        this.#failures += 1;
        this.#become("failed", error);
      }
    }
  }

  #tellSoon() {
    // What comes in one go is shown in one go. Before the first load there is nothing to show.
    if (!this.#telling && this.#snapshot.state !== "loading") {
      this.#telling = true;
      queueMicrotask(() => this.#become(this.#snapshot.state, this.#snapshot.error));
    }
  }

  /**
   * @param {Snapshot<Model>["state"]} state
   * @param {unknown} error
   */
  #become(state, error) {
    this.#telling = false;
    const items = this.#rows?.models ?? [];
    if (this.#options.sort !== undefined) {
      items.sort(this.#options.sort);
    }
    this.#snapshot = Object.freeze({ items: Object.freeze(items), state, error });
    this.#subscribers.emit("change", this.#snapshot);
  }
}
