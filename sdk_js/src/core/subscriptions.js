import { RETRYABLE_CODES } from "./codes.js";
import { errorFrom } from "./error.js";
import { Listeners } from "./listeners.js";

/**
 * @typedef {import("./error.js").TidingsError} TidingsError
 * @typedef {import("./positions.js").Positions} Positions
 * @typedef {"idle" | "subscribing" | "subscribed" | "denied"} ChannelState
 */

/**
 * One channel that has listeners, or had them until a moment ago.
 *
 * @typedef {object} Subscription
 * @property {string} name
 * @property {Listeners} listeners
 * @property {ChannelState} state
 * @property {TidingsError | undefined} error
 * @property {boolean} isRecoverable it was subscribed under the current cursor, so missed publications can be requested
 * @property {boolean} isJoined this connection is subscribed to it
 * @property {boolean} isPending a subscribe request for it has no response yet, or is to be repeated later
 * @property {boolean} isPostponed the hub refused it for now
 * @property {import("./presence_snapshot.js").PresenceSnapshot | undefined} presence its members, if presence is used
 */

const USER_PREFIX = "user:";

/** The channels that have listeners: their states, what to request from the hub, and which events to emit. */
export class Subscriptions {
  /** @type {Map<string, Subscription>} */
  #all = new Map();
  /** @type {Set<string>} channels that the hub subscribes without a request */
  #userChannels = new Set();
  /** @type {Set<string>} channels of the page before this one */
  #savedNames;
  #positions;
  #onError;
  /** @type {TidingsError | undefined} why the hub is closed; undefined while it connects or is connected */
  #closeError;

  /**
   * @param {Positions} positions
   * @param {Iterable<string>} savedNames channels of the page before this one
   * @param {(error: TidingsError) => void} onError the hub refused a channel
   */
  constructor(positions, savedNames, onError) {
    this.#positions = positions;
    this.#savedNames = new Set(savedNames);
    this.#onError = onError;
  }

  /**
   * @param {string} name
   * @returns {Subscription | undefined}
   */
  get(name) {
    return this.#all.get(name);
  }

  /** @returns {Subscription[]} */
  get all() {
    return [...this.#all.values()];
  }

  /** @returns {string[]} the channels whose missed publications can be requested */
  get recoverableNames() {
    return this.all.filter((subscription) => subscription.isRecoverable).map((subscription) => subscription.name);
  }

  /**
   * The subscription of a channel that has a listener, or is about to have one.
   *
   * @param {string} name
   * @returns {Subscription}
   */
  ensure(name) {
    const subscription = this.#all.get(name) ?? {
      name,
      listeners: new Listeners(),
      /** @type {ChannelState} */
      state: this.#closeError ? "idle" : "subscribing",
      error: this.#closeError,
      isRecoverable: this.#savedNames.delete(name),
      isJoined: false,
      isPending: false,
      isPostponed: false,
      presence: undefined,
    };
    this.#all.set(name, subscription);
    return subscription;
  }

  /**
   * The channels for CONNECT. With a cursor only the recoverable ones: all others are subscribed afterwards.
   *
   * @returns {string[]}
   */
  namesForConnect() {
    const isFirst = this.#positions.cursor === undefined;
    return this.all
      .filter((subscription) => subscription.listeners.size && !subscription.name.startsWith(USER_PREFIX))
      .filter((subscription) => isFirst || subscription.isRecoverable)
      .map((subscription) => subscription.name);
  }

  /**
   * The connection ended, or the first attempt begins.
   *
   * @param {TidingsError} [closeError] why there will be no other one
   */
  onLost(closeError) {
    this.#closeError = closeError;
    this.#userChannels.clear();
    for (const subscription of this.all) {
      subscription.isJoined = false;
      subscription.isPending = false;
      subscription.isPostponed = false;
      if (!subscription.listeners.size) {
        this.#remove(subscription);
      } else {
        this.#setState(subscription, closeError ? "idle" : "subscribing", closeError);
      }
    }
  }

  /**
   * Applies `tidings:ready`.
   *
   * @param {object} results by channel
   * @param {unknown} cursor
   */
  onReady(results, cursor) {
    this.#userChannels = new Set(Object.keys(results).filter((name) => name.startsWith(USER_PREFIX)));
    // From here the cursor advances without the other saved channels, so they cannot be recovered later.
    this.#savedNames.clear();
    for (const subscription of this.all) {
      subscription.isRecoverable &&= Object.hasOwn(results, subscription.name);
    }
    this.apply(results, cursor);
  }

  /**
   * Applies the hub's results: `{"recovered": bool}` or `{"error": {…}}` for each channel.
   *
   * @param {object} results
   * @param {unknown} cursor where a new subscription starts
   */
  apply(results, cursor) {
    for (const [name, result] of Object.entries(results)) {
      const subscription = this.#all.get(name);
      if (subscription) {
        this.#applyResult(subscription, Object(result), cursor);
      }
    }
  }

  /**
   * The hub lost publications of these channels.
   *
   * @param {object} results by channel
   */
  onGap(results) {
    for (const name of Object.keys(results)) {
      const subscription = this.#all.get(name);
      if (subscription?.isRecoverable) {
        subscription.listeners.emit("tidings:gap", name);
      }
    }
  }

  /**
   * Marks these channels as denied.
   *
   * @param {string[]} names
   * @param {{code?: unknown, message?: unknown}} error
   */
  deny(names, error) {
    for (const name of names) {
      const subscription = this.#all.get(name);
      if (subscription) {
        const refusal = errorFrom(error, name);
        Object.assign(subscription, { isPending: false, isRecoverable: false, isJoined: false });
        this.#setState(subscription, "denied", refusal);
        this.#onError(refusal);
      }
    }
  }

  /** @returns {boolean} whether the hub refused a channel for now, such as with `too_fast` */
  get hasPostponed() {
    return this.all.some((subscription) => subscription.isPostponed);
  }

  /** Makes the channels that the hub refused for now due for another request. */
  retryPostponed() {
    for (const subscription of this.all.filter(({ isPostponed }) => isPostponed)) {
      Object.assign(subscription, { isPending: false, isPostponed: false });
    }
  }

  /** Makes denied channels due for another request: a new token may allow them. */
  retryDenied() {
    for (const subscription of this.all) {
      if (subscription.state === "denied") {
        this.#setState(subscription, "subscribing");
      }
    }
  }

  /**
   * The channels to subscribe and unsubscribe now. They count as requested from then on.
   *
   * @returns {{subscribe: string[], unsubscribe: string[]}}
   */
  takeChanges() {
    /** @type {string[]} */
    const subscribe = [];
    /** @type {string[]} */
    const unsubscribe = [];
    for (const subscription of this.all.filter(({ isPending }) => !isPending)) {
      const isUserChannel = this.#userChannels.has(subscription.name);
      if (!subscription.listeners.size) {
        if (subscription.isJoined && !isUserChannel) {
          unsubscribe.push(subscription.name);
        }
        this.#remove(subscription);
      } else if (subscription.state === "subscribing" && isUserChannel) {
        this.#applyResult(subscription, {});
      } else if (subscription.state === "subscribing") {
        subscription.isPending = true;
        subscribe.push(subscription.name);
      }
    }
    return { subscribe, unsubscribe };
  }

  /** @param {Subscription} subscription */
  #remove(subscription) {
    this.#all.delete(subscription.name);
    this.#positions.forget(subscription.name);
  }

  /**
   * @param {Subscription} subscription
   * @param {{recovered?: unknown, error?: unknown}} result
   * @param {unknown} [cursor]
   */
  #applyResult(subscription, result, cursor) {
    if (result.error) {
      const error = errorFrom(Object(result.error), subscription.name);
      if (!RETRYABLE_CODES.has(error.code)) {
        this.deny([subscription.name], error);
        return;
      }
      // It stays recoverable: the later response recovers nothing, and the application gets `tidings:gap`.
      Object.assign(subscription, { isPending: true, isPostponed: true, isJoined: false });
      this.#setState(subscription, "subscribing");
      this.#onError(error);
      return;
    }
    const wasRecoverable = subscription.isRecoverable;
    const isRecovered = result.recovered === true;
    Object.assign(subscription, { isPending: false, isJoined: true, isRecoverable: true });
    if (!isRecovered) {
      this.#positions.advanceChannel(subscription.name, cursor);
    }
    this.#setState(subscription, "subscribed");
    if (wasRecoverable) {
      subscription.listeners.emit(isRecovered ? "tidings:recovered" : "tidings:gap", subscription.name);
    }
  }

  /**
   * @param {Subscription} subscription
   * @param {ChannelState} state
   * @param {TidingsError} [error]
   */
  #setState(subscription, state, error) {
    if (subscription.state !== state) {
      subscription.state = state;
      subscription.error = error;
      subscription.listeners.emit("tidings:state", state, error);
    }
  }
}

/**
 * Marks nothing as recovered: what another user received does not count.
 *
 * @param {unknown} results by name, changed in place
 */
export function endRecovery(results) {
  for (const result of Object.values(Object(results))) {
    Object(result).recovered = false;
  }
}
