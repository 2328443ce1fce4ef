import { create, icon, iconButton, safeUrl, setIconButton } from "./dom.js";
import { relativeTime } from "./texts.js";

/**
 * A notification as the hub sends it. Times are in milliseconds since 1970.
 *
 * @typedef {object} Item
 * @property {string} id
 * @property {string} category
 * @property {string} title
 * @property {string | null} [body]
 * @property {string | null} [url]
 * @property {string | null} [icon]
 * @property {number} [count] of a digest
 * @property {number} created_at
 * @property {number | null} seen_at
 * @property {number | null} read_at
 * @property {number | null} archived_at
 */

/** @typedef {{texts: import("./texts.js").Texts, language: string | undefined}} Language */

const CONTENT = /** @type {const} */ (["category", "title", "body", "url", "icon", "count", "created_at"]);

/** One notification of the list. */
export class Row {
  #language;
  #time;
  #category = create("span", { class: "category", part: "category" });
  #prefix = create("span", { class: "for-screen-readers" });
  #read;
  #archive;

  /**
   * @param {Item} item
   * @param {string} label of its category
   * @param {Language} language
   */
  constructor(item, label, language) {
    const { texts } = language;
    this.item = item;
    this.#language = language;
    this.#time = create("time", { datetime: new Date(item.created_at).toISOString(), part: "time", dir: "auto" });
    this.#time.title = new Date(item.created_at).toLocaleString(language.language);
    this.#read = iconButton("read", "check", texts.markRead);
    this.#archive = iconButton("archive", "archive", texts.archive);
    const more = iconButton("menu", "more", texts.more);
    more.setAttribute("aria-haspopup", "menu");
    more.setAttribute("aria-expanded", "false");
    this.open = openerOf(item);
    this.open.append(this.#prefix, avatarOf(item), contentOf(item, this.#time, this.#category));
    this.element = create("li", { part: "item", "data-id": item.id }, this.open);
    this.element.append(create("span", { class: "actions" }, this.#read, this.#archive, more));
    this.#showState();
    this.showLabel(label);
    this.showTime(Date.now());
  }

  /**
   * @param {Item} item the same notification, perhaps in another state
   * @returns {boolean} whether this row shows it now; another content needs another row
   */
  update(item) {
    const { item: previous } = this;
    if (CONTENT.some((key) => previous[key] !== item[key])) {
      return false;
    }
    this.item = item;
    if (isUnread(previous) !== isUnread(item) || isArchived(previous) !== isArchived(item)) {
      this.#showState();
    }
    return true;
  }

  /** @param {string} label of its category */
  showLabel(label) {
    if (this.#category.textContent !== label) {
      this.#category.textContent = label;
    }
  }

  /** @param {number} nowMs */
  showTime(nowMs) {
    const text = relativeTime(this.item.created_at, nowMs, this.#language.language);
    if (this.#time.textContent !== text) {
      this.#time.textContent = text;
    }
  }

  #showState() {
    const { texts } = this.#language;
    const { item } = this;
    this.element.className = isUnread(item) ? "row unread" : "row";
    this.#prefix.textContent = isUnread(item) ? `${texts.unread}: ` : "";
    const { read, archive } = stateActions(item, texts);
    setIconButton(this.#read, read);
    setIconButton(this.#archive, archive);
  }
}

/**
 * @param {Item} item
 * @param {import("./texts.js").Texts} texts
 * @returns {{read: import("./dom.js").Action, archive: import("./dom.js").Action}} what changes its state
 */
export function stateActions(item, texts) {
  return {
    read: isUnread(item)
      ? { action: "read", icon: "check", label: texts.markRead }
      : { action: "unread", icon: "dot", label: texts.markUnread },
    archive: isArchived(item)
      ? { action: "unarchive", icon: "inbox", label: texts.unarchive }
      : { action: "archive", icon: "archive", label: texts.archive },
  };
}

/** @param {Item} item */
function isUnread(item) {
  return item.read_at === null;
}

/** @param {Item} item */
function isArchived(item) {
  return item.archived_at !== null;
}

/** @param {Item} item */
function openerOf(item) {
  const href = safeUrl(item.url);
  const attributes = { class: "open", "data-action": "open" };
  return href ? create("a", { ...attributes, href }) : create("button", { ...attributes, type: "button" });
}

/** @param {Item} item */
function avatarOf(item) {
  const src = safeUrl(item.icon);
  const frame = create("span", { class: "avatar", part: "icon", "aria-hidden": "true" });
  const image = src ? create("img", { src, alt: "", loading: "lazy" }) : icon("bell");
  // Blocked or missing: otherwise the browser shows its sign of a broken image.
  image.addEventListener("error", () => image.replaceWith(icon("bell")));
  frame.append(image);
  return frame;
}

/**
 * @param {Item} item
 * @param {HTMLElement} time
 * @param {HTMLElement} category
 */
function contentOf(item, time, category) {
  const title = create("span", { class: "title", part: "title", dir: "auto" }, item.title);
  if ((item.count ?? 1) > 1) {
    title.append(" ", create("span", { class: "count" }, `${item.count}`));
  }
  const content = create("span", { class: "content" }, create("span", { class: "first" }, title, time));
  if (item.body) {
    content.append(create("span", { class: "body", part: "body", dir: "auto" }, item.body));
  }
  content.append(category);
  return content;
}
