import { delayMs } from "./core/backoff.js";
import { InboxItems } from "./core/inbox_items.js";
import { Listeners } from "./core/listeners.js";

/**
 * @typedef {import("./core/error.js").TidingsError} TidingsError
 * @typedef {import("./core/inbox_marks.js").InboxAction} InboxAction
 * @typedef {import("./core/inbox_marks.js").InboxMark} InboxMark
 */

/**
 * @typedef {import("./inbox_types.js").InboxHub} InboxHub
 * @typedef {import("./inbox_types.js").InboxOptions} InboxOptions
 * @typedef {import("./inbox_types.js").InboxPreference} InboxPreference
 * @typedef {import("./inbox_types.js").InboxSession} InboxSession
 * @typedef {import("./inbox_types.js").InboxSnapshot} InboxSnapshot
 */

// How long the event of a mark may take. Without it the inbox is loaded again.
const EVENT_WAIT_MS = 5000;
const PAGE_ITEMS = 30;
const PAGE_MAX = 100;
/** @type {InboxSnapshot} */
const NOT_LOADED = Object.freeze({
  items: Object.freeze([]),
  counts: Object.freeze({ unseen: 0, unread: 0 }),
  state: "loading",
  error: undefined,
  hasMore: false,
});

/**
 * The inbox of the hub's user. It follows the events of the user's channel. Like a collection it is a store: React's
 * `useSyncExternalStore` takes `subscribe`, `getSnapshot` and `getServerSnapshot`.
 */
export class Inbox {
  /** @type {InboxSnapshot} */
  #snapshot = NOT_LOADED;
  #listeners = new Listeners();
  /** What the hub has. */
  #list;
  /** @type {Set<InboxMark & {version?: number}>} shown until the hub's event; `version`: of that event */
  #marks = new Set();
  /** @type {any[]} events that arrived during a load */
  #held = [];
  /** Identifies the current load: the answer to an earlier one is ignored. */
  #load = {};
  #isLoading = false;
  #isLoadingMore = false;
  #failures = 0;
  /** @type {TidingsError | undefined} */
  #error;
  #cancelRetry = () => {};
  /** @type {(() => void)[]} */
  #unfollow = [];
  #user = "";
  #isClosed = false;
  #hub;
  #session;
  #options;

  /**
   * @param {InboxHub} hub
   * @param {InboxSession} session
   * @param {InboxOptions} [options]
   */
  constructor(hub, session, options = {}) {
    this.#hub = hub;
    this.#session = session;
    this.#options = options;
    this.#list = new InboxItems(options);
    this.#unfollow.push(hub.on("state", () => this.#onHubState()));
    void this.reload();
    this.#onHubState();
  }

  // These are passed as functions, so they cannot rely on `this`.

  /** @returns {InboxSnapshot} the same object until something changes */
  getSnapshot = () => this.#snapshot;

  /** @returns {InboxSnapshot} what a server renders */
  getServerSnapshot = () => NOT_LOADED;

  /**
   * Calls `listener` now and after each change.
   *
   * @param {(snapshot: InboxSnapshot) => void} listener
   * @returns {() => void} removes the listener
   */
  subscribe = (listener) => {
    const off = this.#listeners.on("change", listener);
    listener(this.#snapshot);
    return off;
  };

  /**
   * Loads the next page.
   *
   * @returns {Promise<void>} rejects with a TidingsError
   */
  async loadMore() {
    const load = this.#load;
    if (this.#list.next === null || this.#isLoading || this.#isLoadingMore) {
      return;
    }
    this.#isLoadingMore = true;
    try {
      const page = await this.#request("tidings:inbox", { ...this.#options, before: this.#list.next });
      if (load === this.#load && page.version < this.#list.version) {
        // An event has overtaken this page.
        void this.reload();
      } else if (load === this.#load) {
        this.#list.addPage(page);
        this.#show();
      }
    } finally {
      this.#isLoadingMore = false;
    }
  }

  /** @param {string[]} ids */
  markSeen = (ids) => this.#mark("seen", ids);

  /** Marks the whole inbox, whatever the options. */
  markAllSeen = () => this.#mark("seen");

  /** @param {string[]} ids */
  markRead = (ids) => this.#mark("read", ids);

  /** @param {string[]} ids */
  markUnread = (ids) => this.#mark("unread", ids);

  /** Marks the whole inbox, whatever the options. */
  markAllRead = () => this.#mark("read");

  /** @param {string[]} ids */
  archive = (ids) => this.#mark("archive", ids);

  /** Archives the whole inbox, whatever the options. */
  archiveAll = () => this.#mark("archive");

  /** @param {string[]} ids */
  unarchive = (ids) => this.#mark("unarchive", ids);

  /** @returns {Promise<InboxPreference[]>} the user's preferences; rejects with a TidingsError */
  async preferences() {
    return (await this.#request("tidings:inbox_preferences", {})).preferences;
  }

  /**
   * @param {string} category
   * @param {string} method
   * @param {boolean} enabled
   * @returns {Promise<InboxPreference[]>} all of them, after the change
   */
  async setPreference(category, method, enabled) {
    return (await this.#request("tidings:inbox_preferences", { category, method, enabled })).preferences;
  }

  /** Follows the inbox no longer. */
  close() {
    this.#isClosed = true;
    this.#load = {};
    this.#cancelRetry();
    this.#unfollow.forEach((off) => off());
    this.#unfollow = [];
  }

  /** The hub has connected, perhaps as another user, or has closed. */
  #onHubState() {
    const { user, state } = this.#hub;
    if (state === "connected" && user !== undefined && user !== this.#user) {
      const wasOther = this.#user !== "";
      this.#user = user;
      const [offState = () => {}, ...offs] = this.#unfollow;
      offs.forEach((off) => off());
      const channel = this.#hub.channel(`user:${user}`);
      this.#unfollow = [
        offState,
        channel.on("tidings:notification", (/** @type {any} */ event) => this.#onEvent(event)),
        channel.on("tidings:inbox", (/** @type {any} */ event) => this.#onEvent(event)),
        channel.on("tidings:gap", () => void this.reload()),
      ];
      if (wasOther) {
        this.#forget();
        void this.reload();
      }
    } else if (state === "connected" && this.#error) {
      void this.reload();
    } else if (state === "closed") {
      // Another user may be the next one.
      this.#forget();
      this.#show();
    }
  }

  #forget() {
    this.#marks.clear();
    this.#list = new InboxItems(this.#options);
  }

  /** Loads the first page. What is shown stays until then. */
  async reload() {
    const load = {};
    this.#load = load;
    this.#isLoading = true;
    this.#held = [];
    this.#cancelRetry();
    try {
      const { limit = PAGE_ITEMS } = this.#options;
      const size = Math.min(PAGE_MAX, Math.max(limit, this.#list.size));
      const page = await this.#request("tidings:inbox", { ...this.#options, limit: size });
      if (load === this.#load) {
        this.#list.load(page);
        this.#failures = 0;
        this.#end();
      }
    } catch (cause) {
      if (load === this.#load) {
        this.#isLoading = false;
        this.#error = /** @type {TidingsError} */ (cause);
        if (this.#error.code === "timeout") {
          const retryMs = delayMs(this.#failures, this.#session.environment.random);
          this.#cancelRetry = this.#session.environment.setTimer(() => void this.reload(), retryMs);
          this.#failures += 1;
        }
        this.#show();
      }
    }
  }

  /** A load has ended: the events that it does not include follow. */
  #end() {
    const held = this.#held;
    this.#isLoading = false;
    this.#error = undefined;
    this.#held = [];
    held.forEach((event) => this.#onEvent(event));
    this.#show();
  }

  /** @param {any} event */
  #onEvent(event) {
    if (this.#isLoading) {
      this.#held.push(event);
    } else if (this.#list.apply(event)) {
      this.#show();
    } else if (event.version > this.#list.version) {
      void this.reload();
    }
  }

  /**
   * @param {InboxAction} action
   * @param {string[]} [ids] unset: all
   * @returns {Promise<void>} rejects with a TidingsError; then the items are as before
   */
  async #mark(action, ids) {
    /** @type {InboxMark & {version?: number}} */
    const mark = { action, ids, atMs: Date.now() };
    this.#marks.add(mark);
    this.#show();
    try {
      const { version } = await this.#request("tidings:inbox_mark", ids ? { action, ids } : { action, all: true });
      mark.version = version;
      this.#session.environment.setTimer(() => this.#marks.has(mark) && void this.reload(), EVENT_WAIT_MS);
    } catch (error) {
      this.#marks.delete(mark);
      throw error;
    } finally {
      this.#show();
    }
  }

  /**
   * @param {string} event
   * @param {object} body
   */
  #request(event, body) {
    return this.#session.outbox.request(event, body);
  }

  #show() {
    if (this.#isClosed) {
      return;
    }
    const { version, next } = this.#list;
    this.#marks.forEach((mark) => Number(mark.version) <= version && this.#marks.delete(mark));
    const error = this.#error;
    const state = error ? "failed" : version < 0 ? "loading" : "ready";
    this.#snapshot = Object.freeze({ ...this.#list.shown([...this.#marks]), state, error, hasMore: next !== null });
    this.#listeners.emit("change", this.#snapshot);
  }
}
