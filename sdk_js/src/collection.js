import { delayMs } from "./core/backoff.js";
import { messageOf, TidingsError } from "./core/error.js";
import { Listeners } from "./core/listeners.js";

/**
 * @template {object} Model
 * @typedef {object} CollectionOptions
 * @property {(request: {signal: AbortSignal}) => Iterable<Model> | Promise<Iterable<Model>>} load returns all models in
 *   their current state; `signal` is aborted when the result is no longer needed
 * @property {string} channel the channel to which the backend pushes the models
 * @property {string | undefined} [key] the property that identifies a model; the default is `id`
 * @property {((model: Model) => number | string | undefined) | undefined} [version] returns the version of a loaded
 *   model, as the backend's `push_model` sends it; the default is the field that a push names
 * @property {((a: Model, b: Model) => number) | undefined} [sort] depends on the two models only: unchanged models keep
 *   their place
 */

/**
 * @template {object} Model
 * @typedef {object} Snapshot immutable; each change creates a new one. The models are the application's: not frozen
 * @property {readonly Readonly<Model>[]} items
 * @property {"loading" | "ready" | "failed"} state `failed`: `items` are not up to date, because the last `load` failed
 *   and is retried, or because the hub refused the channel or the connection
 * @property {TidingsError | undefined} error the reason for `failed`; what `load` threw is the `cause` of `load_failed`
 */

/** @typedef {import("./core/subscriptions.js").ChannelState} ChannelState */
/** @typedef {Pick<import("./environment.js").Environment, "random" | "setTimer" | "parts">} Clock */

/**
 * What a collection needs of its channel.
 *
 * @typedef {object} PushChannel
 * @property {string} name
 * @property {ChannelState} state
 * @property {TidingsError | undefined} error
 * @property {(event: any, listener: any) => () => void} on
 */

const EVENT = "updated_model";
const FRAME_MS = 16;
/** If the subscription takes longer than this, the list is loaded without it: an outdated list is better than none. */
const SUBSCRIBE_WAIT_MS = 2000;
/** @type {Snapshot<any>} */
const NOT_LOADED = Object.freeze({ items: Object.freeze([]), state: "loading", error: undefined });

/**
 * A list of models. It is loaded once, follows the backend's pushes, and is loaded again after a gap. It is active
 * while it has subscribers. React's `useSyncExternalStore` takes `subscribe`, `getSnapshot` and
 * `getServerSnapshot`; an object with `subscribe` is a Svelte store.
 *
 * @template {object} Model
 */
export class Collection {
  #name;
  #channel;
  #options;
  #clock;
  #report;
  /** @type {import("./core/rows.js").Rows<Model> | undefined} set by the first load */
  #rows;
  #subscribers = new Listeners();
  /** @type {(() => void)[] | undefined} set while the collection is active */
  #removeListeners;
  #cancelStop = () => {};
  #cancelRetry = () => {};
  #failures = 0;
  #isSubscribed = false;
  /** @type {TidingsError | undefined} why there are no changes of the list */
  #refusal;
  /** @type {AbortController | undefined} of the current load */
  #currentLoad;
  /** @type {(() => void) | undefined} set while changes wait for the end of a frame */
  #cancelEmit;
  /** @type {Snapshot<Model>} */
  #snapshot = NOT_LOADED;
  #cancelWait = () => {};

  /**
   * @param {string} name
   * @param {PushChannel} channel
   * @param {CollectionOptions<Model>} options
   * @param {Clock} clock
   * @param {(error: TidingsError) => void} report
   */
  constructor(name, channel, options, clock, report) {
    this.#name = name;
    this.#channel = channel;
    this.#options = options;
    this.#clock = clock;
    this.#report = report;
  }

  // These are passed as functions, so they cannot rely on `this`.

  /** @returns {Snapshot<Model>} the same object until something changes */
  getSnapshot = () => this.#snapshot;

  /** @returns {Snapshot<Model>} what a server renders: always `loading`, so each part of a page can hydrate later */
  getServerSnapshot = () => NOT_LOADED;

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
    this.#clock.parts.rows().catch(() => {});
    this.#isSubscribed = false;
    const onState = (/** @type {[ChannelState, TidingsError | undefined]} */ ...args) => this.#onState(...args);
    this.#removeListeners = [
      () => this.#cancelWait(),
      channel.on(EVENT, (/** @type {unknown} */ data) => this.#applyPush(Object(data))),
      channel.on("tidings:gap", () => this.reload()),
      channel.on("tidings:state", onState),
    ];
    onState(channel.state, channel.error);
  }

  /**
   * @param {ChannelState} state
   * @param {TidingsError} [error]
   */
  #onState(state, error) {
    const wasSubscribed = this.#isSubscribed;
    this.#cancelWait();
    if (state === "idle") {
      this.#clear(error);
    } else if (state !== "subscribing") {
      this.#isSubscribed = state === "subscribed";
      this.#refusal = error;
      if (!wasSubscribed) {
        // A list that was loaded before the subscription may lack changes made in between: load it again.
        this.reload();
      } else if (error) {
        this.#setState("failed", error);
      }
    } else if (!this.#rows) {
      this.#cancelWait = this.#clock.setTimer(() => void this.#load(), SUBSCRIBE_WAIT_MS);
    }
  }

  /**
   * Forgets the models: without a connection or subscribers they may change, and another user may be the next one.
   *
   * @param {TidingsError} [error] why the hub is closed
   */
  #clear(error) {
    this.#cancelLoad();
    this.#rows = undefined;
    this.#isSubscribed = false;
    this.#refusal = error?.code === "closed" ? undefined : error;
    this.#setState(this.#refusal ? "failed" : "loading", this.#refusal);
  }

  #cancelLoad() {
    this.#cancelRetry();
    this.#currentLoad?.abort();
    this.#currentLoad = undefined;
  }

  #stop() {
    for (const off of this.#removeListeners ?? []) {
      off();
    }
    this.#removeListeners = undefined;
    // It gets no changes from now on, and the next subscriber may be another user.
    this.#clear();
  }

  /** @param {any} data as `push_model` sends it */
  #applyPush(data) {
    const { model, op, version, version_kind: kind } = data;
    if (data.class !== this.#name || !model || typeof model !== "object" || version === undefined) {
      return;
    }
    // Before the first load there are no rows, and that load includes this change.
    if (this.#rows?.apply(op, model, version, kind)) {
      this.#emitSoon();
    }
  }

  async #load() {
    this.#cancelRetry();
    this.#currentLoad?.abort();
    const load = new AbortController();
    this.#currentLoad = load;
    const { signal } = load;
    const { key = "id", version, sort } = this.#options;
    try {
      const { Rows, checkModels } = await this.#clock.parts.rows();
      if (signal.aborted) {
        return;
      }
      // As text: some backends load ids as strings (GraphQL), and push them as numbers.
      const keyOf = (/** @type {Model} */ model) => `${/** @type {Record<string, unknown>} */ (model)[key]}`;
      this.#rows ??= new Rows(this.#name, keyOf, version, sort);
      this.#rows.startLoad();
      const models = checkModels(await this.#options.load({ signal }), key);
      if (this.#currentLoad === load) {
        this.#rows.load(models);
        this.#failures = 0;
        this.#setState(this.#refusal ? "failed" : "ready", this.#refusal);
      }
    } catch (cause) {
      if (this.#currentLoad === load) {
        this.#cancelRetry = this.#clock.setTimer(() => void this.#load(), delayMs(this.#failures, this.#clock.random));
        this.#failures += 1;
        this.#setState("failed", this.#failureOf("The list was not loaded", cause));
      }
    }
  }

  /**
   * @param {string} what
   * @param {unknown} cause what the application's function threw
   * @returns {TidingsError} which is reported, unless the list has failed for the same reason already
   */
  #failureOf(what, cause) {
    const { error: last } = this.#snapshot;
    const { name: channel } = this.#channel;
    const text = `${what}: ${messageOf(cause)}`;
    if (last?.message === text) {
      return last;
    }
    const error = new TidingsError("load_failed", text, { cause, channel });
    this.#report(error);
    return error;
  }

  #emitSoon() {
    // The changes of a frame cause one event, also if a page takes long for each. A page that handled each publication
    // by itself would fall behind. Before the first load there is nothing to show.
    if (!this.#cancelEmit && this.#snapshot.state !== "loading") {
      const emit = () => this.#setState(this.#snapshot.state, this.#snapshot.error);
      this.#cancelEmit = this.#clock.setTimer(emit, FRAME_MS);
    }
  }

  /**
   * @param {Snapshot<Model>["state"]} state
   * @param {TidingsError} [error]
   */
  #setState(state, error) {
    this.#cancelEmit?.();
    this.#cancelEmit = undefined;
    this.#snapshot = Object.freeze(this.#shown(state, error));
    this.#subscribers.emit("change", this.#snapshot);
  }

  /**
   * @param {Snapshot<Model>["state"]} state
   * @param {TidingsError} [error]
   * @returns {Snapshot<Model>}
   */
  #shown(state, error) {
    try {
      return { items: Object.freeze(this.#rows?.models ?? []), state, error };
    } catch (cause) {
      return { items: this.#snapshot.items, state: "failed", error: this.#failureOf("The list was not sorted", cause) };
    }
  }
}
