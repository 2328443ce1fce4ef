// `<tidings-inbox>`: a bell with a badge, and a panel with the user's notifications. It needs no framework.
import { Bell } from "./inbox_element/bell.js";
import { ConnectedElement } from "./inbox_element/connected_element.js";
import { ItemActions } from "./inbox_element/item_actions.js";
import { Panel } from "./inbox_element/panel.js";
import { Parts } from "./inbox_element/parts.js";
import { preferencesIn, updateSwitches } from "./inbox_element/preferences.js";
import { RepeatingTimer } from "./inbox_element/repeating_timer.js";
import { STYLE } from "./inbox_element/style.js";
import { labelOf, TEXTS } from "./inbox_element/texts.js";

/** @typedef {import("./inbox_element/store.js").InboxStore} InboxStore */

/**
 * Set the property `hub` to a hub of the SDK, or `inbox` to a store, or the attributes `url`, and `token` or
 * `token-url`. More attributes: `theme` (`light`, `dark`, `auto`; by default that of the page), `placement` (`start`)
 * and `text-…` for each text, such as `text-mark-all-read`. Set them, or the property `texts`, before it is connected.
 */
export class TidingsInbox extends ConnectedElement {
  /** @type {Partial<import("./inbox_element/texts.js").Texts>} */
  texts = {};
  #panel = /** @type {Panel} */ (/** @type {unknown} */ (undefined));
  #bell = /** @type {Bell} */ (/** @type {unknown} */ (undefined));
  #actions = /** @type {ItemActions} */ (/** @type {unknown} */ (undefined));
  #parts = new Parts(() => this.onChange());
  #timer = new RepeatingTimer(() => this.#panel.rows.showTimes(Date.now()));
  #watchEnd = () => {};
  #disconnected = new AbortController();
  #words = /** @type {import("./inbox_element/texts.js").Texts} */ (TEXTS);

  /** @override */
  connectedCallback() {
    this.#render();
    this.#disconnected = new AbortController();
    const { signal } = this.#disconnected;
    const onPointer = (/** @type {Event} */ event) => event.composedPath().includes(this) || this.close();
    document.addEventListener("pointerdown", onPointer, { signal });
    addEventListener("online", () => this.onChange(), { signal });
    addEventListener("offline", () => this.onChange(), { signal });
    super.connectedCallback();
  }

  /** @override */
  disconnectedCallback() {
    this.#disconnected.abort();
    this.close();
    super.disconnectedCallback();
  }

  /** @override */
  onInbox() {
    this.#parts.close();
    this.#forgetUser();
  }

  /** What is left of the last user, besides the list: it would be shown to the next one, or changed for that one. */
  #forgetUser() {
    this.#actions?.forgetPreferences();
    this.#panel?.toast.hide();
    if (this.#panel?.preferences) {
      this.#panel.leavePreferences();
    }
  }

  /** Opens the panel and marks everything as seen. */
  open() {
    this.#panel.open();
    this.#actions.forgetPreferences();
    this.#bell.button.setAttribute("aria-expanded", "true");
    this.onChange();
    this.#timer.start();
    this.#panel.scroll.focus();
    this.#seeAll();
  }

  close() {
    if (!this.#panel.element.hidden) {
      const hadFocus = this.#panel.element.contains(this.shadowRoot?.activeElement ?? null);
      this.#panel.menu.close();
      this.#panel.toast.hide();
      this.#panel.element.hidden = true;
      this.#timer.stop();
      this.#parts.close();
      this.#bell.button.setAttribute("aria-expanded", "false");
      if (hadFocus) {
        this.#bell.button.focus();
      }
    }
  }

  #render() {
    this.#labelled = undefined;
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
    this.#bell = new Bell(this.#words);
    this.#actions = new ItemActions(this.#panel, () => this.#tabStore);
    root.replaceChildren(this.#bell.button, this.#bell.live, this.#panel.element);
    this.#bell.button.addEventListener("click", () => (this.#panel.element.hidden ? this.open() : this.close()));
    const { element, end, scroll } = this.#panel;
    element.addEventListener("click", (event) => this.#onClick(event));
    element.addEventListener("change", ({ target }) => this.#onSwitch(/** @type {HTMLInputElement} */ (target)));
    element.addEventListener("keydown", (event) => this.#onKey(event));
    const observer = new IntersectionObserver((entries) => this.#onEnd(entries), { root: scroll, rootMargin: "400px" });
    // Begins again, so that it also calls if the end is still near after a change.
    this.#watchEnd = () => {
      observer.unobserve(end);
      observer.observe(end);
    };
  }

  /** @param {IntersectionObserverEntry[]} entries */
  #onEnd(entries) {
    if (!entries.at(-1)?.isIntersecting) {
      return;
    }
    if (this.#panel.grow()) {
      this.#update();
    } else {
      void this.#attempt(() => this.#tabStore?.loadMore());
    }
  }

  /** @returns {InboxStore | undefined} what the selected tab shows */
  get #tabStore() {
    return this.#parts.store(this.inbox, this.#panel.tab);
  }

  /** @override */
  onChange() {
    const { snapshot } = this;
    this.#bell.update(snapshot.counts.unseen);
    this.#panel.isOnline = navigator.onLine;
    if (snapshot.state !== "ready" && snapshot.items.length === 0) {
      // The hub has closed, or the user is another one.
      this.#forgetUser();
    }
    if (!this.#panel.element.hidden) {
      this.#update();
      this.#seeAll();
      void this.#showLabels();
    }
  }

  /** @type {InboxStore | undefined} whose labels of categories were requested */
  #labelled;

  /** The rows get the labels of categories once the panel has a list. Until then they have the names. */
  async #showLabels() {
    const { inbox: store } = this;
    if (store && store !== this.#labelled && this.snapshot.items.length > 0) {
      this.#labelled = store;
      try {
        const preferences = await this.#actions.preferences();
        this.#panel.rows.setLabels(new Map(preferences.map((each) => [each.category, labelOf(each)])));
      } catch (error) {
        this.report(error);
      }
    }
  }

  #update() {
    const hasArchive = this.inbox?.part !== undefined;
    if (this.#panel.tab === "archived" && !hasArchive) {
      this.#panel.tab = "all";
    }
    const snapshot = this.#parts.snapshot(this.inbox, this.#panel.tab, this.snapshot);
    const language = /** @type {HTMLElement | null} */ (this.closest("[lang]"))?.lang || undefined;
    this.#panel.update(snapshot, hasArchive, language);
    this.#watchEnd();
  }

  #isSeeing = false;

  /** While the panel is open, what arrives is seen. One request at a time; the next change repeats a failed one. */
  #seeAll() {
    const { unseen } = this.snapshot.counts;
    if (unseen > 0 && !this.#isSeeing && navigator.onLine) {
      this.#isSeeing = true;
      const finish = () => {
        this.#isSeeing = false;
      };
      void this.#attempt(() => this.inbox?.markAllSeen()).then(finish);
    }
  }

  /** @param {Event} event */
  #onClick(event) {
    const path = /** @type {HTMLElement[]} */ (event.composedPath().filter((node) => node instanceof HTMLElement));
    const target = path.find((node) => node.dataset["action"]);
    const id = path.find((node) => node.dataset["id"])?.dataset["id"] ?? "";
    if (path.includes(this.#panel.menu.element)) {
      this.#panel.menu.close();
    }
    /** @type {Record<string, () => unknown>} */
    const actions = {
      open: () => this.#openItem(event, id),
      "read-all": () => this.inbox?.markAllRead(),
      retry: () => this.retry(this.#tabStore),
      undo: () => this.#panel.toast.undo(),
      preferences: () => this.#openPreferences(),
      back: () => this.#leavePreferences(),
      close: () => this.close(),
      tab: () => this.#select(/** @type {import("./inbox_element/panel.js").Tab} */ (target?.dataset["tab"])),
    };
    const name = target?.dataset["action"] ?? "";
    const action = actions[name] ?? this.#actions.get(name, id, target);
    if (action && target?.getAttribute("aria-disabled") !== "true") {
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
    return item?.read_at === null ? this.#tabStore?.markRead([id]) : undefined;
  }

  /** @param {import("./inbox_element/panel.js").Tab} tab */
  #select(tab) {
    this.#panel.select(tab);
    this.onChange();
  }

  async #openPreferences() {
    const preferences = preferencesIn(await this.inbox?.preferences());
    this.#actions.forgetPreferences();
    this.#panel.showPreferences(preferences);
  }

  #leavePreferences() {
    this.#panel.leavePreferences();
    this.onChange();
    this.#panel.scroll.focus();
  }

  /** @param {HTMLInputElement} box */
  async #onSwitch(box) {
    const { category = "", method = "" } = box.dataset;
    const isDone = await this.#attempt(() => this.inbox?.setPreference(category, method, box.checked));
    if (!isDone) {
      box.checked = !box.checked;
    }
    const group = box.closest("fieldset");
    if (group) {
      updateSwitches(group);
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
      this.#panel.toast.show(this.#words.actionFailed);
      this.report(error);
      return false;
    }
  }
}

if (globalThis.customElements && !customElements.get("tidings-inbox")) {
  const definition = /** @type {CustomElementConstructor} */ (/** @type {unknown} */ (TidingsInbox));
  customElements.define("tidings-inbox", definition);
}
