// `<tidings-inbox>`: a bell with a badge, and a panel with the user's notifications. It needs no framework.
import { create, icon } from "./inbox_element/dom.js";
import { Panel } from "./inbox_element/panel.js";
import { STYLE } from "./inbox_element/style.js";
import { TEXTS, withNumber } from "./inbox_element/texts.js";

/**
 * The store of an inbox. Its snapshot is immutable, and each change creates a new one.
 *
 * @typedef {object} InboxStore
 * @property {(listener: () => void) => () => void} subscribe
 * @property {() => import("./inbox_element/panel.js").Snapshot} getSnapshot
 * @property {() => unknown} loadMore
 * @property {() => unknown} [reload] for the panel's retry; without it, retry calls `loadMore`
 * @property {() => unknown} markAllSeen
 * @property {(ids: string[]) => unknown} markRead
 * @property {(ids: string[]) => unknown} markUnread
 * @property {() => unknown} markAllRead
 * @property {(ids: string[]) => unknown} archive
 * @property {() => Promise<any>} preferences
 * @property {(category: string, method: string, enabled: boolean) => Promise<any>} setPreference
 */

const MAX_BADGE = 99;
// Modules are also imported where pages are rendered, without a DOM.
const Base = globalThis.HTMLElement ?? class {};

/**
 * Set `inbox` to a store. Attributes: `theme` (`light`, `dark`, `auto`; by default that of the page), `placement`
 * (`start`) and `text-…` for each text, such as `text-mark-all-read`. Set them, or the property `texts`, before it is
 * connected.
 */
export class TidingsInbox extends Base {
  /** @type {Partial<import("./inbox_element/texts.js").Texts>} */
  texts = {};
  /** @type {InboxStore | undefined} */
  #store;
  #panel = /** @type {Panel} */ (/** @type {unknown} */ (undefined));
  #badge = /** @type {HTMLElement} */ (/** @type {unknown} */ (undefined));
  #button = /** @type {HTMLButtonElement} */ (/** @type {unknown} */ (undefined));
  #live = /** @type {HTMLElement} */ (/** @type {unknown} */ (undefined));
  #unfollow = () => {};
  #disconnected = new AbortController();
  #words = /** @type {import("./inbox_element/texts.js").Texts} */ (TEXTS);

  /** @returns {InboxStore | undefined} */
  get inbox() {
    return this.#store;
  }

  set inbox(store) {
    this.#unfollow();
    this.#store = store;
    if (this.isConnected) {
      this.#follow();
    }
  }

  connectedCallback() {
    // A page may have set the property before this class was defined.
    if (Object.hasOwn(this, "inbox")) {
      const { inbox } = this;
      delete (/** @type {any} */ (this).inbox);
      this.#store = inbox;
    }
    this.#render();
    this.#disconnected = new AbortController();
    const { signal } = this.#disconnected;
    const onPointer = (/** @type {Event} */ event) => event.composedPath().includes(this) || this.close();
    document.addEventListener("pointerdown", onPointer, { signal });
    addEventListener("online", () => this.#update(), { signal });
    addEventListener("offline", () => this.#update(), { signal });
    this.#follow();
  }

  disconnectedCallback() {
    this.#disconnected.abort();
    this.#unfollow();
  }

  /** Opens the panel and marks everything as seen. */
  open() {
    this.#panel.element.hidden = false;
    this.#panel.place();
    this.#button.setAttribute("aria-expanded", "true");
    this.#update();
    this.#panel.scroll.focus();
    this.#seeAll();
  }

  close() {
    if (!this.#panel.element.hidden) {
      const hadFocus = this.#panel.element.contains(this.shadowRoot?.activeElement ?? null);
      this.#panel.element.hidden = true;
      this.#button.setAttribute("aria-expanded", "false");
      if (hadFocus) {
        this.#button.focus();
      }
    }
  }

  #render() {
    const root = this.shadowRoot ?? this.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    root.adoptedStyleSheets = [sheet];
    const attributes = Object.keys(TEXTS).flatMap((key) => {
      const text = this.getAttribute(`text-${key.replace(/[A-Z]/gu, (letter) => `-${letter.toLowerCase()}`)}`);
      return text === null ? [] : [[key, text]];
    });
    this.#words = { ...TEXTS, ...Object.fromEntries(attributes), ...this.texts };
    this.#panel = new Panel(this.#words);
    this.#badge = create("span", { class: "badge", part: "badge", "aria-hidden": "true" });
    this.#button = create("button", { class: "bell-button", part: "bell", type: "button", "aria-haspopup": "dialog" });
    this.#button.setAttribute("aria-expanded", "false");
    this.#button.append(icon("bell"), this.#badge);
    this.#live = create("span", { class: "for-screen-readers", role: "status" });
    root.replaceChildren(this.#button, this.#live, this.#panel.element);
    this.#button.addEventListener("click", () => (this.#panel.element.hidden ? this.open() : this.close()));
    const { element, end, scroll } = this.#panel;
    element.addEventListener("click", (event) => this.#onClick(event));
    element.addEventListener("change", ({ target }) => this.#onSwitch(/** @type {HTMLInputElement} */ (target)));
    element.addEventListener("keydown", (event) => this.#onKey(event));
    const onEnd = (/** @type {IntersectionObserverEntry[]} */ entries) => {
      if (entries.some(({ isIntersecting }) => isIntersecting)) {
        void this.#attempt(() => this.#store?.loadMore());
      }
    };
    new IntersectionObserver(onEnd, { root: scroll, rootMargin: "400px" }).observe(end);
  }

  #follow() {
    this.#unfollow();
    this.#unfollow = this.#store?.subscribe(() => this.#update()) ?? (() => {});
    this.#update();
  }

  #update() {
    const snapshot = this.#store?.getSnapshot();
    this.#updateBell(snapshot?.counts.unseen ?? 0);
    this.#panel.isOnline = navigator.onLine;
    if (snapshot && !this.#panel.element.hidden) {
      this.#panel.update(snapshot, /** @type {HTMLElement | null} */ (this.closest("[lang]"))?.lang || undefined);
      this.#seeAll();
    }
  }

  /** @param {number} unseen */
  #updateBell(unseen) {
    this.#badge.hidden = unseen === 0;
    const badge = unseen > MAX_BADGE ? `${MAX_BADGE}+` : `${unseen}`;
    if (this.#badge.textContent !== badge) {
      this.#badge.textContent = badge;
      this.#live.textContent = unseen > 0 ? withNumber(this.#words.arrived, unseen) : "";
    }
    this.#button.setAttribute("aria-label", withNumber(this.#words.open, unseen));
  }

  #isSeeing = false;

  /** While the panel is open, what arrives is seen. One request at a time; the next change repeats a failed one. */
  #seeAll() {
    const unseen = this.#store?.getSnapshot().counts.unseen ?? 0;
    if (unseen > 0 && !this.#isSeeing && navigator.onLine) {
      this.#isSeeing = true;
      const finish = () => {
        this.#isSeeing = false;
      };
      void this.#attempt(() => this.#store?.markAllSeen()).then(finish);
    }
  }

  /** @param {Event} event */
  #onClick(event) {
    const path = /** @type {HTMLElement[]} */ (event.composedPath().filter((node) => node instanceof HTMLElement));
    const target = path.find((node) => node.dataset["action"]);
    const id = path.find((node) => node.dataset["id"])?.dataset["id"] ?? "";
    const store = this.#store;
    /** @type {Record<string, () => unknown>} */
    const actions = {
      open: () => this.#openItem(event, id),
      read: () => store?.markRead([id]),
      unread: () => store?.markUnread([id]),
      archive: () => store?.archive([id]),
      "read-all": () => store?.markAllRead(),
      retry: () => (store?.getSnapshot().state === "failed" && store.reload ? store.reload() : store?.loadMore()),
      preferences: async () => this.#panel.showPreferences(preferencesIn(await store?.preferences())),
      back: () => this.#leavePreferences(),
      close: () => this.close(),
      tab: () => this.#select(target?.dataset["tab"] ?? "all"),
    };
    const action = actions[target?.dataset["action"] ?? ""];
    if (action) {
      void this.#attempt(action);
    }
  }

  /**
   * Marks a notification as read. A page that routes by itself prevents the default of the event `tidings-open`.
   *
   * @param {Event} event
   * @param {string} id
   */
  #openItem(event, id) {
    const item = this.#panel.rows.item(id);
    const opening = new CustomEvent("tidings-open", { detail: item, bubbles: true, composed: true, cancelable: true });
    if (!this.dispatchEvent(opening)) {
      event.preventDefault();
    }
    return item?.read_at === null ? this.#store?.markRead([id]) : undefined;
  }

  /** @param {string} tab */
  #select(tab) {
    this.#panel.tab = tab;
    this.#panel.scroll.scrollTop = 0;
    this.#update();
  }

  #leavePreferences() {
    this.#panel.leavePreferences();
    this.#update();
    this.#panel.scroll.focus();
  }

  /** @param {HTMLInputElement} box */
  async #onSwitch(box) {
    const { category = "", method = "" } = box.dataset;
    const isDone = await this.#attempt(() => this.#store?.setPreference(category, method, box.checked));
    if (!isDone) {
      box.checked = !box.checked;
    }
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    if (event.key === "Escape") {
      event.stopPropagation();
      this.close();
    } else {
      this.#panel.moveFocus(event, this.shadowRoot?.activeElement ?? null);
    }
  }

  /**
   * @param {() => unknown} action
   * @returns {Promise<boolean>} whether it succeeded; if not, the panel shows it
   */
  async #attempt(action) {
    try {
      await action();
      return true;
    } catch (error) {
      this.#panel.notice.hidden = false;
      this.#panel.notice.replaceChildren(create("span", {}, this.#words.actionFailed));
      this.dispatchEvent(new CustomEvent("tidings-error", { detail: error, bubbles: true, composed: true }));
      return false;
    }
  }
}

/**
 * @param {any} response the list, or the hub's response that has it
 * @returns {import("./inbox_element/preferences.js").Preference[]}
 */
function preferencesIn(response) {
  return Array.isArray(response) ? response : (response?.preferences ?? []);
}

if (globalThis.customElements && !customElements.get("tidings-inbox")) {
  const definition = /** @type {CustomElementConstructor} */ (/** @type {unknown} */ (TidingsInbox));
  customElements.define("tidings-inbox", definition);
}
