import { delayMs } from "./core/backoff.js";
import { Listeners } from "./core/listeners.js";

/**
 * @template {object} Model
 * @typedef {object} CollectionOptions
 * @property {(request: {signal: AbortSignal}) => Iterable<Model> | Promise<Iterable<Model>>} load returns all models in
 *   their current state; `signal` is aborted when the result is no longer needed
 * @property {string} channel the channel to which the backend pushes the models
 * @property {string} [key] the property that identifies a model; the default is `id`
 * @property {(model: Model) => number | string | undefined} [version] returns the version of a loaded model, as the
 *   backend's `push_model` sends it; the default is the model's `version` or `updated_at`
 * @property {(a: Model, b: Model) => number} [sort]
 */

/**
 * @template {object} Model
 * @typedef {object} Snapshot immutable; each change creates a new one
 * @property {readonly Readonly<Model>[]} items
 * @property {"loading" | "ready" | "failed"} state `failed`: the last `load` failed, `items` are unchanged, and the
 *   load is retried
 * @property {unknown} error the error that `load` threw
 */

/** @typedef {Pick<import("./environment.js").Environment, "random" | "setTimer">} Clock */

/**
 * What a collection needs of its channel.
 *
 * @typedef {object} PushChannel
 * @property {import("./core/subscriptions.js").ChannelState} state
 * @property {(event: any, listener: any) => () => void} on
 */

const EVENT = "updated_model";
/** If the subscription takes longer than this, the list is loaded without it: an outdated list is better than none. */
const SUBSCRIBE_WAIT_MS = 2000;
/** Only pages with a list load this module. */
const importRows = () => import("./core/rows.js");

/**
 * A list of models. It is loaded once, follows the backend's pushes, and is loaded again after a gap. It is active
 * while it has subscribers. React's `useSyncExternalStore` takes `subscribe` and `getSnapshot`; an object with
 * `subscribe` is a Svelte store.
 *
 * @template {object} Model
 */
export class Collection {
  #name;
  #channel;
  #options;
  #clock;
  /** @type {import("./core/rows.js").Rows<Model> | undefined} set by the first load */
  #rows;
  #subscribers = new Listeners();
  /** @type {(() => void)[] | undefined} set while the collection is active */
  #removeListeners;
  #cancelStop = () => {};
  #cancelRetry = () => {};
  #failures = 0;
  /** @type {AbortController | undefined} of the current load */
  #currentLoad;
  #isEmitPending = false;
  /** @type {Snapshot<Model>} */
  #snapshot = Object.freeze({ items: Object.freeze([]), state: "loading", error: undefined });

  /**
   * @param {string} name
   * @param {PushChannel} channel
   * @param {CollectionOptions<Model>} options
   * @param {Clock} clock
   */
  constructor(name, channel, options, clock) {
    this.#name = name;
    this.#channel = channel;
    this.#options = options;
    this.#clock = clock;
  }

  // These two are passed as functions, so they cannot rely on `this`.

  /** @returns {Snapshot<Model>} the same object until something changes */
  getSnapshot = () => this.#snapshot;

  /**
   * Calls `listener` now and after each change.
   *
   * @param {(snapshot: Snapshot<Model>) => void} listener
   * @returns {() => void} removes the listener
   */
  subscribe = (listener) => {
    const off = this.#subscribers.on("change", listener);
    this.#cancelStop();
    if (!this.#removeListeners) {
      this.#start();
    }
    listener(this.#snapshot);
    return () => {
      off();
      if (!this.#subscribers.size) {
        // A framework may unsubscribe and subscribe again in one render. This must not cause another load.
        this.#cancelStop();
        this.#cancelStop = this.#clock.setTimer(() => this.#stop(), 0);
      }
    };
  };

  /** Loads all models again. */
  reload() {
    if (this.#removeListeners) {
      void this.#load();
    }
  }

  #start() {
    const channel = this.#channel;
    // The module loads during the subscribe request. If this fails, the first load fails and is retried.
    importRows().catch(() => {});
    const cancelTimer = this.#clock.setTimer(() => void this.#load(), SUBSCRIBE_WAIT_MS);
    let isSubscribed = false;
    const onState = (/** @type {import("./core/subscriptions.js").ChannelState} */ state) => {
      // A list that was loaded before the subscription may lack changes made in between: load it again.
      if (!isSubscribed && (state === "subscribed" || state === "denied")) {
        isSubscribed = state === "subscribed";
        cancelTimer();
        this.reload();
      }
    };
    this.#removeListeners = [
      cancelTimer,
      channel.on(EVENT, (/** @type {unknown} */ data) => this.#applyPush(Object(data))),
      channel.on("tidings:gap", () => this.reload()),
      channel.on("tidings:state", onState),
    ];
    onState(channel.state);
  }

  #stop() {
    for (const off of this.#removeListeners ?? []) {
      off();
    }
    this.#removeListeners = undefined;
    this.#cancelRetry();
    this.#currentLoad?.abort();
    this.#currentLoad = undefined;
  }

  /** @param {any} data as `push_model` sends it */
  #applyPush(data) {
    const { model, op, version } = data;
    if (data.class !== this.#name || !model || typeof model !== "object" || version === undefined) {
      return;
    }
    // Before the first load there are no rows, and that load includes this change.
    if (this.#rows?.apply(op, model, version)) {
      this.#emitSoon();
    }
  }

  async #load() {
    this.#cancelRetry();
    this.#currentLoad?.abort();
    const load = new AbortController();
    this.#currentLoad = load;
    const { signal } = load;
    const { key = "id", version } = this.#options;
    try {
      const { Rows, versionOf } = await importRows();
      signal.throwIfAborted();
      this.#rows ??= new Rows((model) => /** @type {Record<string, unknown>} */ (model)[key], version ?? versionOf);
      this.#rows.startLoad();
      const models = [...(await this.#options.load({ signal }))];
      if (this.#currentLoad === load) {
        this.#rows.load(models);
        this.#failures = 0;
        this.#setState("ready");
      }
    } catch (error) {
      if (this.#currentLoad === load) {
        this.#cancelRetry = this.#clock.setTimer(() => void this.#load(), delayMs(this.#failures, this.#clock.random));
        this.#failures += 1;
        this.#setState("failed", error);
      }
    }
  }

  #emitSoon() {
    // Changes that arrive together cause one event. Before the first load there is nothing to show.
    if (!this.#isEmitPending && this.#snapshot.state !== "loading") {
      this.#isEmitPending = true;
      queueMicrotask(() => this.#setState(this.#snapshot.state, this.#snapshot.error));
    }
  }

  /**
   * @param {Snapshot<Model>["state"]} state
   * @param {unknown} [error]
   */
  #setState(state, error) {
    this.#isEmitPending = false;
    const items = this.#rows?.models ?? [];
    if (this.#options.sort) {
      items.sort(this.#options.sort);
    }
    this.#snapshot = Object.freeze({ items: Object.freeze(items), state, error });
    this.#subscribers.emit("change", this.#snapshot);
  }
}
