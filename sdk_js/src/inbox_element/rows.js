import { Row } from "./row.js";
import { readable } from "./texts.js";

// How many rows the list has at first, and how many more when its end is near.
const STEP = 40;
// More than this are removed once the user is back at the start.
const KEPT_MAX = 200;

/** @typedef {import("./row.js").Item} Item */

/**
 * The rows of a list, newest first. It has no more rows than the user has scrolled to, so a long inbox costs no more
 * than a short one. A row stays as long as its notification has the same content.
 */
export class Rows {
  /** @type {Map<string, Row>} by the notification's id, in the order of the list */
  #rows = new Map();
  /** @type {readonly Item[]} */
  #items = [];
  #max = STEP;
  /** @type {ReadonlyMap<string, string>} of categories; without one, a row has the category's name */
  #labels = new Map();
  #language = /** @type {import("./row.js").Language} */ ({});

  /** @param {HTMLElement} list */
  constructor(list) {
    this.list = list;
  }

  /** @returns {boolean} whether notifications have no row yet */
  get hasMore() {
    return this.#items.length > this.#rows.size;
  }

  /**
   * @param {readonly Item[]} items
   * @param {import("./row.js").Language} language
   */
  update(items, language) {
    this.#items = items;
    this.#language = language;
    const previous = this.#rows;
    // What was shown stays, also if new ones are above it.
    const length = Math.max(this.#max, items.findLastIndex(({ id }) => previous.has(id)) + 1);
    this.#rows = new Map(items.slice(0, length).map((item) => [item.id, this.#rowOf(item, previous.get(item.id))]));
    previous.forEach((row, id) => this.#rows.has(id) || remove(row));
    let place = this.list.firstElementChild;
    for (const { element } of this.#rows.values()) {
      if (element === place) {
        place = place.nextElementSibling;
      } else {
        this.list.insertBefore(element, place);
      }
    }
  }

  /** @returns {boolean} whether there were more notifications to show */
  grow() {
    const { hasMore } = this;
    if (hasMore) {
      this.#max = this.#rows.size + STEP;
      this.update(this.#items, this.#language);
    }
    return hasMore;
  }

  /** The start of the list is shown: rows far below it only cost time. */
  shrink() {
    if (this.#rows.size > KEPT_MAX) {
      this.#max = STEP;
      [...this.#rows].slice(STEP).forEach(([id, row]) => {
        this.#rows.delete(id);
        row.element.remove();
      });
    }
  }

  /** For another list. */
  clear() {
    this.#rows.clear();
    this.#items = [];
    this.#max = STEP;
    this.list.replaceChildren();
  }

  /** @param {ReadonlyMap<string, string>} labels of categories */
  setLabels(labels) {
    this.#labels = labels;
    this.#rows.forEach((row) => row.showLabel(this.#labelOf(row.item)));
  }

  /** @param {Item} item */
  #labelOf({ category }) {
    return this.#labels.get(category) ?? readable(category);
  }

  /** @param {number} nowMs */
  showTimes(nowMs) {
    this.#rows.forEach((row) => row.showTime(nowMs));
  }

  /** @param {string} id */
  item(id) {
    return this.#rows.get(id)?.item;
  }

  /**
   * @param {Item} item
   * @param {Row | undefined} previous
   * @returns {Row}
   */
  #rowOf(item, previous) {
    if (previous?.update(item)) {
      return previous;
    }
    const row = new Row(item, this.#labelOf(item), this.#language);
    if (previous) {
      const hadFocus = hasFocus(previous.element);
      previous.element.replaceWith(row.element);
      if (hadFocus) {
        row.open.focus();
      }
    }
    return row;
  }
}

/** @param {Row} row */
function remove({ element }) {
  // The focus goes on to the next notification.
  const next = hasFocus(element) && (element.nextElementSibling ?? element.previousElementSibling);
  if (next) {
    main(next).focus({ preventScroll: true });
  }
  element.remove();
}

/** @param {Element} element */
function hasFocus(element) {
  return element.contains(/** @type {ShadowRoot} */ (element.getRootNode()).activeElement);
}

/**
 * @param {Element} row
 * @returns {HTMLElement} what opens the notification
 */
export function main(row) {
  return /** @type {HTMLElement} */ (row.querySelector(".open"));
}
