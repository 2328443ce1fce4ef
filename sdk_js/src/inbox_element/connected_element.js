import { userOf } from "../core/token_user.js";
import { ElementConnection } from "./connection.js";

// Modules are also imported where pages are rendered, without a DOM.
const Base = globalThis.HTMLElement ?? class {};
const NONE = Object.freeze({ items: [], counts: { unseen: 0, unread: 0 }, error: undefined, hasMore: false });

/**
 * @typedef {import("./store.js").InboxStore} InboxStore
 * @typedef {import("./panel.js").Snapshot} Snapshot
 */

/** An element with an inbox: the one in its property `inbox`, or one that it opens itself while it is in a page. */
export class ConnectedElement extends Base {
  static observedAttributes = ["url", "token", "token-url"];
  /** @type {InboxStore | undefined} */
  #store;
  /** @type {import("./connection.js").ElementHub | undefined} */
  #hub;
  /** @type {ElementConnection | undefined} set if the element has opened the inbox itself */
  #connection;
  /** @type {Snapshot} what is shown while there is no store */
  #unopened = { ...NONE, state: "loading" };
  #unfollow = () => {};
  /** Attributes are also set before the element is in a page, and when its class is defined. */
  #isInPage = false;

  /** @returns {InboxStore | undefined} */
  get inbox() {
    return this.#store;
  }

  set inbox(store) {
    this.#connection?.close();
    this.#connection = undefined;
    this.#show(store);
  }

  /** @returns {import("./connection.js").ElementHub | undefined} */
  get hub() {
    return this.#hub;
  }

  set hub(hub) {
    this.#hub = hub;
    this.inbox = undefined;
    if (this.isConnected) {
      void this.#connect();
    }
  }

  /** @returns {Snapshot} */
  get snapshot() {
    return this.#store?.getSnapshot() ?? this.#unopened;
  }

  connectedCallback() {
    // A page may have set the properties before this class was defined.
    const early = /** @type {any} */ (this);
    for (const name of ["hub", "inbox"].filter((property) => Object.hasOwn(this, property))) {
      const value = early[name];
      delete early[name];
      early[name] = value;
    }
    this.#isInPage = true;
    this.#show(this.#store);
    void this.#connect();
  }

  disconnectedCallback() {
    this.#isInPage = false;
    this.#unfollow();
    if (this.#connection) {
      this.inbox = undefined;
    }
  }

  /**
   * Another user may be meant. The list of the last one is closed at once.
   *
   * @param {string} name
   * @param {string | null} before
   * @param {string | null} value
   */
  attributeChangedCallback(name, before, value) {
    const isOwn = this.#connection !== undefined || !(this.#store || this.#hub);
    if (this.#isInPage && isOwn && before !== value && !(name === "token" && this.#isRenewal(before, value))) {
      this.inbox = undefined;
      void this.#connect();
    }
  }

  /**
   * @param {string | null} before
   * @param {string | null} token
   * @returns {boolean} whether it is for the same user, whose connection asks for it before the last one expires
   */
  #isRenewal(before, token) {
    const user = userOf(token);
    return user !== undefined && user === userOf(before) && this.snapshot.state === "ready";
  }

  /** The snapshot is another one. */
  onChange() {}

  /** The inbox is another one. */
  onInbox() {}

  /** @param {unknown} error */
  report(error) {
    this.dispatchEvent(new CustomEvent("tidings-error", { detail: error, bubbles: true, composed: true }));
  }

  /**
   * @param {InboxStore | undefined} [store] the inbox, or a part of it
   * @returns {unknown} loads again what failed, or the next page
   */
  retry(store = this.#store) {
    if (!store) {
      return this.#connect();
    }
    const again = store.getSnapshot().state === "failed" ? (store.retry ?? store.reload) : undefined;
    return again ? again.call(store) : store.loadMore();
  }

  /** Opens the inbox of `hub`, or over a connection of its own. */
  async #connect() {
    if (this.#connection || this.#store || !(this.#hub || this.hasAttribute("url"))) {
      return;
    }
    const connection = new ElementConnection();
    this.#connection = connection;
    this.#unopened = { ...NONE, state: "loading" };
    this.onChange();
    try {
      const inbox = await connection.open(this, this.#hub);
      if (inbox) {
        this.#show(inbox);
      }
    } catch (error) {
      connection.close();
      if (this.#connection !== connection) {
        return;
      }
      this.#connection = undefined;
      this.#unopened = { ...NONE, state: "failed", error };
      this.onChange();
      this.report(error);
    }
  }

  /** @param {InboxStore | undefined} store */
  #show(store) {
    this.#unfollow();
    this.#unfollow = () => {};
    if (this.#store !== store) {
      this.#store = store;
      this.onInbox();
    }
    if (this.isConnected) {
      this.#unfollow = store?.subscribe(() => this.onChange()) ?? this.#unfollow;
      this.onChange();
    }
  }
}
