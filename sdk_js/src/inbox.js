import { delayMs } from "./core/backoff.js";
import { InboxItems } from "./core/inbox_items.js";
import { Listeners } from "./core/listeners.js";
import { NO_INBOX } from "./no_inbox.js";
import { PendingMarks } from "./pending_marks.js";

/**
 * @typedef {import("./core/error.js").TidingsError} TidingsError
 * @typedef {import("./core/inbox_marks.js").InboxAction} InboxAction
 */

/**
 * @typedef {import("./inbox_types.js").InboxHub} InboxHub
 * @typedef {import("./inbox_types.js").InboxOptions} InboxOptions
 * @typedef {import("./inbox_types.js").InboxPreference} InboxPreference
 * @typedef {import("./inbox_types.js").InboxSession} InboxSession
 * @typedef {import("./inbox_types.js").InboxSnapshot} InboxSnapshot
 */

const PAGE_ITEMS = 30;
const PAGE_MAX = 100;

/**
 * The inbox of the hub's user. It follows the events of the user's channel. Like a collection it is a store: React's
 * `useSyncExternalStore` takes `subscribe`, `getSnapshot` and `getServerSnapshot`.
 */
export class Inbox {
  /** @type {InboxSnapshot} */
  #snapshot = NO_INBOX;
  #listeners = new Listeners();
  /** What the hub has. */
  #list;
  #marks;
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
  #onClose;
  #unfollow = () => {};
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
    this.#marks = PendingMarks.of(session);
    const [version, show, reload] = [() => this.#list.version, () => this.#show(), () => this.reload()];
    this.#onClose = [this.#marks.open({ version, show, reload }), hub.on("state", () => this.#onHubState())];
    void (hub.state === "closed" || this.reload());
    this.#onHubState();
  }

  // These are passed as functions, so they cannot rely on `this`.

  /** @returns {InboxSnapshot} the same object until something changes */
  getSnapshot = () => this.#snapshot;

  /** @returns {InboxSnapshot} what a server renders */
  getServerSnapshot = () => NO_INBOX;

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

  /**
   * Another part of the inbox, as `hub.inbox` opens it. Marks of one are shown in all.
   *
   * @param {InboxOptions} options
   * @returns {Inbox} close it as well
   */
  part = (options) => new Inbox(this.#hub, this.#session, options);

  /** After a failure: connects at once if the hub is waiting or closed, and loads again. */
  retry() {
    // What failed is loaded once the hub is connected.
    return this.#isOffline ? this.#hub.connect() : this.reload();
  }

  get #isOffline() {
    return ["waiting", "closed"].includes(this.#hub.state);
  }

  /** Follows the inbox no longer. */
  close() {
    this.#isClosed = true;
    this.#load = {};
    this.#cancelRetry();
    this.#unfollow();
    this.#onClose.forEach((off) => off());
  }

  /** The hub has connected, perhaps as another user, or has closed. */
  #onHubState() {
    const { user, state } = this.#hub;
    if (state === "connected" && user !== undefined && user !== this.#user) {
      if (this.#user !== "") {
        this.#forget();
      }
      this.#user = user;
      this.#unfollow();
      const channel = this.#hub.channel(`user:${user}`);
      const onEvent = (/** @type {any} */ event) => this.#onEvent(event);
      const offs = ["tidings:notification", "tidings:inbox"].map((name) => channel.on(name, onEvent));
      offs.push(channel.on("tidings:gap", () => void this.reload()));
      this.#unfollow = () => offs.forEach((off) => off());
    }
    if (state === "connected" && (this.#error || this.#isEmpty)) {
      void this.reload();
    } else if (state === "closed") {
      // Another user may be the next one.
      this.#forget();
    } else if (this.#list.version < 0) {
      this.#show();
    }
  }

  /** Nothing is loaded, or about to be: the hub was closed. */
  get #isEmpty() {
    return this.#list.version < 0 && !this.#isLoading;
  }

  #forget() {
    this.#load = {};
    this.#isLoading = false;
    this.#error = undefined;
    this.#marks.clear();
    this.#list = new InboxItems(this.#options);
    this.#show();
  }

  /** Loads the first page. What is shown stays until then. */
  async reload() {
    const load = {};
    this.#load = load;
    this.#isLoading = true;
    this.#held = [];
    this.#cancelRetry();
    try {
      const size = Math.min(PAGE_MAX, Math.max(this.#options.limit ?? PAGE_ITEMS, this.#list.size));
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
  #mark(action, ids) {
    // With what is known of the items, so that another inbox counts and lists those that it has not loaded.
    return this.#marks.send({ action, ids, items: ids && this.#list.known(ids), atMs: Date.now() });
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
    // Without a connection nothing can be loaded.
    const error = this.#error ?? (version < 0 && this.#isOffline ? this.#hub.error : undefined);
    const state = error ? "failed" : version < 0 ? "loading" : "ready";
    const shown = this.#list.shown(this.#marks.after(version));
    this.#snapshot = Object.freeze({ ...shown, state, error, hasMore: next !== null });
    this.#listeners.emit("change", this.#snapshot);
  }
}
