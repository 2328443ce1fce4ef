import { create, icon, iconButton } from "./dom.js";
import { Menu } from "./menu.js";
import { preferenceGroups } from "./preferences.js";
import { main, Rows } from "./rows.js";
import { Toast } from "./toast.js";

const SKELETONS = 6;
const EMPTY_ICONS = /** @type {const} */ ({ all: "bell", unread: "check", archived: "archive" });
const TABS = /** @type {const} */ (["all", "unread", "archived"]);

/** @typedef {typeof TABS[number]} Tab */

/**
 * @typedef {object} Snapshot
 * @property {readonly import("./row.js").Item[]} items
 * @property {{unseen: number, unread: number}} counts
 * @property {"loading" | "ready" | "failed"} state
 * @property {unknown} error
 * @property {boolean} hasMore
 */

/** What opens below the bell: the list with its tabs, or the preferences. */
export class Panel {
  /** @type {Tab} */
  tab = "all";
  isOnline = true;
  /** @type {readonly import("./preferences.js").Preference[] | undefined} */
  preferences;
  #unread = create("span", { class: "tab-count" });
  #isAtStart = true;

  /** @param {import("./texts.js").Texts} texts */
  constructor(texts) {
    this.texts = texts;
    this.list = create("ul", { part: "list", "aria-label": texts.title });
    this.rows = new Rows(this.list);
    this.message = create("div", { class: "message", part: "message" });
    this.end = create("div", { class: "end", "aria-hidden": "true" }, createSkeleton());
    this.menu = new Menu(texts.more);
    this.toast = new Toast(texts.undo);
    this.scroll = create("div", { class: "scroll", role: "tabpanel", id: "list", tabindex: "-1" });
    this.scroll.append(this.message, this.list, this.end);
    this.tabs = create("div", { class: "tabs", role: "tablist", part: "tabs", "aria-label": texts.title });
    this.tabs.append(...TABS.map((name) => this.#createTab(name)));
    this.notice = create("div", { class: "notice", part: "notice", role: "status" });
    // No <header>: the page has its own landmarks.
    this.header = create("div", { class: "header", part: "header" });
    this.element = create("div", { class: "panel", part: "panel", role: "dialog", "aria-label": texts.title });
    this.element.append(this.header, this.tabs, this.notice, this.scroll, this.toast.element);
    this.element.append(this.menu.backdrop, this.menu.element);
    this.element.hidden = true;
    this.scroll.addEventListener("scroll", () => this.#onScroll(), { passive: true });
    this.#showHeader();
  }

  /** @param {Tab} name */
  #createTab(name) {
    const label = this.texts[name];
    const attributes = { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": "list" };
    const tab = create("button", { ...attributes, part: "tab", "data-action": "tab", "data-tab": name }, label);
    if (name === "unread") {
      // The space is for screen readers.
      tab.append(" ", this.#unread);
    }
    return tab;
  }

  #showHeader() {
    const { texts } = this;
    const heading = create("h2", { part: "title" }, this.preferences ? texts.preferences : texts.title);
    const close = iconButton("close", "close", texts.close);
    if (this.preferences) {
      this.header.replaceChildren(iconButton("back", "back", texts.back), heading, close);
    } else {
      const readAll = iconButton("read-all", "checks", texts.markAllRead);
      this.header.replaceChildren(heading, readAll, iconButton("preferences", "settings", texts.preferences), close);
    }
  }

  /** Shows the start of the list. */
  open() {
    this.element.hidden = false;
    this.scroll.scrollTop = 0;
    this.#isAtStart = true;
    this.#place();
  }

  /** Extends to the other side if the page has no room on this one. */
  #place() {
    const { classList } = this.element;
    classList.remove("flipped");
    const { left, right } = this.element.getBoundingClientRect();
    classList.toggle("flipped", left < 0 || right > innerWidth);
  }

  /** @param {readonly import("./preferences.js").Preference[]} preferences */
  showPreferences(preferences) {
    this.preferences = preferences;
    this.#showHeader();
    this.tabs.hidden = true;
    this.notice.hidden = true;
    this.scroll.setAttribute("role", "group");
    this.scroll.setAttribute("aria-label", this.texts.preferences);
    this.scroll.replaceChildren(...preferenceGroups(preferences, this.texts));
  }

  leavePreferences() {
    this.preferences = undefined;
    this.#showHeader();
    this.tabs.hidden = false;
    this.scroll.setAttribute("role", "tabpanel");
    this.scroll.removeAttribute("aria-label");
    this.scroll.replaceChildren(this.message, this.list, this.end);
  }

  /**
   * @param {Snapshot} snapshot of the selected tab
   * @param {boolean} hasArchive
   * @param {string | undefined} language
   */
  update(snapshot, hasArchive, language) {
    if (this.preferences) {
      return;
    }
    const { items, counts } = snapshot;
    if (this.#isAtStart) {
      this.rows.shrink();
    }
    this.rows.update(items, { texts: this.texts, language });
    if (this.menu.id !== undefined && !this.rows.item(this.menu.id)) {
      this.menu.close();
    }
    this.list.hidden = items.length === 0;
    this.#updateEnd(snapshot);
    this.#updateTabs(counts.unread, hasArchive);
    this.header.querySelector("[data-action=read-all]")?.setAttribute("aria-disabled", `${counts.unread === 0}`);
    this.#updateNotice(snapshot);
    this.message.hidden = items.length > 0;
    const kind = this.#messageKind(snapshot);
    if (this.message.dataset["kind"] !== kind) {
      this.message.dataset["kind"] = kind;
      this.message.className = kind === "loading" ? "" : "message";
      this.message.replaceChildren(...this.#messageOf(kind));
    }
  }

  #onScroll() {
    this.menu.close();
    // Here and not with a change, which would have to wait for the layout.
    this.#isAtStart = this.scroll.scrollTop === 0;
  }

  /** @param {Tab} tab */
  select(tab) {
    this.tab = tab;
    this.rows.clear();
    this.scroll.scrollTop = 0;
  }

  /** @param {Snapshot} snapshot */
  #updateEnd({ hasMore, state }) {
    this.end.hidden = !this.rows.hasMore && (!hasMore || state !== "ready");
  }

  /** @returns {boolean} whether rows were added for notifications that are loaded */
  grow() {
    return !this.preferences && this.rows.grow();
  }

  /**
   * @param {number} unread
   * @param {boolean} hasArchive
   */
  #updateTabs(unread, hasArchive) {
    for (const tab of /** @type {Iterable<HTMLElement>} */ (this.tabs.children)) {
      const isSelected = tab.id === `tab-${this.tab}`;
      tab.setAttribute("aria-selected", `${isSelected}`);
      tab.setAttribute("tabindex", isSelected ? "0" : "-1");
      tab.hidden = tab.id === "tab-archived" && !hasArchive;
    }
    this.#unread.textContent = `${unread}`;
    this.#unread.hidden = unread === 0;
    this.scroll.setAttribute("aria-labelledby", `tab-${this.tab}`);
  }

  /** @param {Snapshot} snapshot */
  #updateNotice({ items, state }) {
    const isStale = state === "failed" && items.length > 0;
    this.notice.hidden = this.isOnline && !isStale;
    if (!this.isOnline) {
      this.notice.replaceChildren(create("span", {}, this.texts.offline));
    } else if (isStale) {
      const retry = create("button", { type: "button", class: "link", "data-action": "retry" }, this.texts.retry);
      this.notice.replaceChildren(create("span", {}, this.texts.stale), retry);
    }
  }

  /** @param {Snapshot} snapshot */
  #messageKind({ state, hasMore }) {
    if (state !== "ready") {
      return state;
    }
    return hasMore ? "loading" : `empty-${this.tab}`;
  }

  /** @param {string} kind */
  #messageOf(kind) {
    const { texts } = this;
    if (kind === "loading") {
      const bones = Array.from({ length: SKELETONS }, createSkeleton);
      return [create("span", { class: "for-screen-readers", role: "status" }, texts.loading), ...bones];
    }
    const isFailed = kind === "failed";
    const sign = create("span", { class: "sign" }, icon(isFailed ? "alert" : EMPTY_ICONS[this.tab]));
    if (isFailed) {
      const retry = create("button", { type: "button", class: "link", "data-action": "retry" }, texts.retry);
      return [sign, create("strong", {}, texts.failed), retry];
    }
    const words = { all: texts.empty, unread: texts.emptyUnread, archived: texts.emptyArchived }[this.tab];
    const hint = this.tab === "archived" ? texts.emptyArchivedHint : texts.emptyHint;
    return [sign, create("strong", {}, words), create("span", {}, hint)];
  }

  /**
   * Moves the focus between tabs and between notifications.
   *
   * @param {KeyboardEvent} event
   * @param {Element | null} focused
   */
  moveFocus(event, focused) {
    if (focused?.getAttribute("role") === "tab" && ["ArrowLeft", "ArrowRight"].includes(event.key)) {
      const tabs = /** @type {HTMLElement[]} */ ([...this.tabs.children]).filter((tab) => !tab.hidden);
      const isLeft = getComputedStyle(this.tabs).direction === "rtl";
      const index = tabs.findIndex((tab) => tab === focused) + ((event.key === "ArrowLeft") === isLeft ? 1 : -1);
      const other = /** @type {HTMLElement} */ (tabs.at(index % tabs.length));
      other.click();
      other.focus();
      event.preventDefault();
    }
    const step = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
    const rows = [...this.list.children];
    if (step === undefined || this.preferences || rows.length === 0) {
      return;
    }
    const index = rows.findIndex((row) => row.contains(focused)) + step;
    const row = rows[Math.max(0, Math.min(rows.length - 1, index))];
    if (row) {
      main(row).focus();
      event.preventDefault();
    }
  }
}

/** @returns {HTMLElement} the shape of a notification that is not loaded */
function createSkeleton() {
  const lines = create("div", {}, create("b"), create("b"), create("b"));
  return create("div", { class: "skeleton", "aria-hidden": "true" }, create("i"), lines);
}
