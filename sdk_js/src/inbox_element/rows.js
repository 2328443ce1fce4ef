import { create, icon, iconButton, safeUrl } from "./dom.js";
import { readable, relativeTime } from "./texts.js";

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

/** The rows of a list, one for each notification. A row is made again only if its notification has changed. */
export class Rows {
  /** @type {Map<string, {item: Item, row: HTMLLIElement}>} */
  #rows = new Map();
  /** @type {ReadonlyMap<string, string>} of categories; without one, a row has the category's name */
  #labels = new Map();

  /** @param {HTMLElement} list */
  constructor(list) {
    this.list = list;
  }

  /**
   * @param {readonly Item[]} items
   * @param {import("./texts.js").Texts} texts
   * @param {string | undefined} language
   */
  update(items, texts, language) {
    const previous = this.#rows;
    this.#rows = new Map();
    /** @type {Element | null} */
    let next = this.list.firstElementChild;
    for (const item of items) {
      const shown = previous.get(item.id);
      const row = shown?.item === item ? shown.row : createRow(item, this.#labelOf(item), texts, language);
      if (shown && shown.row !== row) {
        next = next === shown.row ? row : next;
        replaceRow(shown.row, row);
      }
      if (row === next) {
        next = next.nextElementSibling;
      } else {
        this.list.insertBefore(row, next);
      }
      this.#rows.set(item.id, { item, row });
      previous.delete(item.id);
    }
    previous.forEach(({ row }) => row.remove());
  }

  /** @param {ReadonlyMap<string, string>} labels of categories */
  setLabels(labels) {
    this.#labels = labels;
    for (const { item, row } of this.#rows.values()) {
      /** @type {Element} */ (row.querySelector("[part=category]")).textContent = this.#labelOf(item);
    }
  }

  /** @param {Item} item */
  #labelOf({ category }) {
    return this.#labels.get(category) ?? readable(category);
  }

  clear() {
    this.#rows.clear();
    this.list.replaceChildren();
  }

  /** @param {string} id */
  item(id) {
    return this.#rows.get(id)?.item;
  }
}

/**
 * @param {Element} row
 * @returns {HTMLElement} what opens the notification
 */
export function main(row) {
  return /** @type {HTMLElement} */ (row.querySelector(".open"));
}

/**
 * @param {HTMLElement} previous
 * @param {HTMLElement} row takes its place, and the focus if it had it
 */
function replaceRow(previous, row) {
  const { activeElement } = /** @type {ShadowRoot} */ (previous.getRootNode());
  const hadFocus = previous.contains(activeElement);
  previous.replaceWith(row);
  if (hadFocus) {
    main(row).focus();
  }
}

/**
 * @param {Item} item
 * @param {string} label of its category
 * @param {import("./texts.js").Texts} texts
 * @param {string | undefined} language
 * @returns {HTMLLIElement}
 */
function createRow(item, label, texts, language) {
  const isUnread = item.read_at === null;
  const time = create(
    "time",
    { datetime: new Date(item.created_at).toISOString(), title: new Date(item.created_at).toLocaleString(language) },
    relativeTime(item.created_at, Date.now(), language),
  );
  const meta = create("span", { class: "meta" }, create("span", { part: "category" }, label), time);
  const title = create("span", { class: "title", part: "title", dir: "auto" }, item.title);
  if ((item.count ?? 1) > 1) {
    title.append(" ", create("span", { class: "count" }, `${item.count}`));
  }
  const content = create("span", { class: "content" }, title);
  if (item.body) {
    content.append(create("span", { class: "body", part: "body", dir: "auto" }, item.body));
  }
  content.append(meta);
  const open = openerOf(item, isUnread ? `${texts.unread}: ` : "");
  open.append(avatar(item), content);
  const actions = create(
    "span",
    { class: "actions" },
    isUnread ? iconButton("read", "check", texts.markRead) : iconButton("unread", "dot", texts.markUnread),
    iconButton("archive", "archive", texts.archive),
  );
  const row = create("li", { class: isUnread ? "row unread" : "row", part: "item", "data-id": item.id });
  row.append(open, actions);
  return row;
}

/**
 * @param {Item} item
 * @param {string} prefix for screen readers
 */
function openerOf(item, prefix) {
  const href = safeUrl(item.url);
  const attributes = { class: "open", "data-action": "open" };
  const opener = href ? create("a", { ...attributes, href }) : create("button", { ...attributes, type: "button" });
  opener.append(create("span", { class: "for-screen-readers" }, prefix));
  return opener;
}

/** @param {Item} item */
function avatar(item) {
  const src = safeUrl(item.icon);
  const frame = create("span", { class: "avatar", part: "icon", "aria-hidden": "true" });
  frame.append(src ? create("img", { src, alt: "", loading: "lazy" }) : icon("bell"));
  return frame;
}
