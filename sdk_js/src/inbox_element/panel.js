import { create, icon, iconButton } from "./dom.js";
import { preferenceGroups } from "./preferences.js";
import { main, Rows } from "./rows.js";

const SKELETONS = 5;

/**
 * @typedef {object} Snapshot
 * @property {readonly import("./rows.js").Item[]} items
 * @property {{unseen: number, unread: number}} counts
 * @property {"loading" | "ready" | "failed"} state
 * @property {unknown} error
 * @property {boolean} hasMore
 */

/** What opens below the bell: the list with its tabs, or the preferences. */
export class Panel {
  tab = "all";
  isOnline = true;
  /** @type {readonly import("./preferences.js").Preference[] | undefined} */
  preferences;

  /** @param {import("./texts.js").Texts} texts */
  constructor(texts) {
    this.texts = texts;
    this.list = create("ul", { part: "list", "aria-label": texts.title });
    this.rows = new Rows(this.list);
    this.message = create("div", { class: "message", part: "message" });
    this.end = create("div", { class: "end" });
    this.scroll = create("div", { class: "scroll", role: "tabpanel", id: "list", tabindex: "-1" });
    this.scroll.append(this.message, this.list, this.end);
    this.tabs = create("div", { class: "tabs", role: "tablist", part: "tabs", "aria-label": texts.title });
    this.tabs.append(...["all", "unread"].map((name) => this.#createTab(name)));
    this.notice = create("div", { class: "notice", part: "notice", role: "status" });
    // No <header>: the page has its own landmarks.
    this.header = create("div", { class: "header", part: "header" });
    this.element = create("div", { class: "panel", part: "panel", role: "dialog", "aria-label": texts.title });
    this.element.append(this.header, this.tabs, this.notice, this.scroll);
    this.element.hidden = true;
    this.#showHeader();
  }

  /** @param {string} name */
  #createTab(name) {
    const label = name === "all" ? this.texts.all : this.texts.unread;
    const attributes = { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": "list" };
    return create("button", { ...attributes, part: "tab", "data-action": "tab", "data-tab": name }, label);
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

  /** Extends to the other side if the page has no room on this one. */
  place() {
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
   * @param {Snapshot} snapshot
   * @param {string | undefined} language
   */
  update(snapshot, language) {
    if (this.preferences) {
      return;
    }
    const items = snapshot.items.filter(({ read_at: readAt }) => this.tab === "all" || readAt === null);
    this.rows.update(items, this.texts, language);
    this.list.hidden = items.length === 0;
    this.end.hidden = !snapshot.hasMore || snapshot.state !== "ready";
    this.#updateTabs(snapshot.counts.unread);
    this.#updateNotice(snapshot);
    this.message.hidden = items.length > 0;
    const kind = this.#messageKind(snapshot);
    if (this.message.dataset["kind"] !== kind) {
      this.message.dataset["kind"] = kind;
      this.message.className = kind === "loading" ? "" : "message";
      this.message.replaceChildren(...this.#messageOf(kind));
    }
  }

  /** @param {number} unread */
  #updateTabs(unread) {
    for (const tab of this.tabs.children) {
      const isSelected = tab.id === `tab-${this.tab}`;
      tab.setAttribute("aria-selected", `${isSelected}`);
      tab.setAttribute("tabindex", isSelected ? "0" : "-1");
      if (tab.id === "tab-unread") {
        const count = unread > 0 ? [" ", create("span", { class: "tab-count" }, `${unread}`)] : [];
        tab.replaceChildren(this.texts.unread, ...count);
      }
    }
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
  #messageKind({ items, state, hasMore }) {
    if (state !== "ready") {
      return state;
    }
    return hasMore && items.length > 0 ? "loading" : `empty-${this.tab}`;
  }

  /** @param {string} kind */
  #messageOf(kind) {
    const { texts } = this;
    if (kind === "loading") {
      const bones = Array.from({ length: SKELETONS }, () => {
        const lines = create("div", {}, create("i"), create("i"));
        return create("div", { class: "skeleton", "aria-hidden": "true" }, create("i"), lines);
      });
      return [create("span", { class: "for-screen-readers", role: "status" }, texts.loading), ...bones];
    }
    const isFailed = kind === "failed";
    const sign = create("span", { class: "avatar" }, icon(isFailed ? "alert" : "bell"));
    if (isFailed) {
      const retry = create("button", { type: "button", class: "link", "data-action": "retry" }, texts.retry);
      return [sign, create("strong", {}, texts.failed), retry];
    }
    const words = kind === "empty-unread" ? texts.emptyUnread : texts.empty;
    return [sign, create("strong", {}, words), create("span", {}, texts.emptyHint)];
  }

  /**
   * Moves the focus between tabs and between notifications.
   *
   * @param {KeyboardEvent} event
   * @param {Element | null} focused
   */
  moveFocus(event, focused) {
    if (focused?.getAttribute("role") === "tab" && ["ArrowLeft", "ArrowRight"].includes(event.key)) {
      const other = /** @type {HTMLElement} */ (focused.nextElementSibling ?? focused.previousElementSibling);
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
