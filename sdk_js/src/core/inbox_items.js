import { byAge, isListed, markedCounts, markedItem } from "./inbox_marks.js";

/**
 * @typedef {import("./inbox_marks.js").InboxCounts} InboxCounts
 * @typedef {import("./inbox_marks.js").InboxItem} InboxItem
 * @typedef {import("./inbox_marks.js").InboxMark} InboxMark
 * @typedef {{category?: string | undefined, archived?: boolean | undefined, unread?: boolean | undefined}} Filter
 */

const MARKS_OF_ALL = new Set(["seen", "read", "archive"]);

/** The notifications that are loaded, as the hub has them. */
export class InboxItems {
  /** -1: none are loaded. */
  version = -1;
  /** @type {string | null} where the next page starts */
  next = null;
  /** @type {Map<string, InboxItem>} by id */
  #items = new Map();
  /** @type {InboxCounts} */
  #counts = { unseen: 0, unread: 0 };
  #filter;

  /** @param {Filter} filter */
  constructor(filter) {
    this.#filter = filter;
  }

  /** @returns {number} */
  get size() {
    return this.#items.size;
  }

  /** @param {any} page the first one */
  load(page) {
    this.#items.clear();
    this.#counts = page.counts;
    this.version = page.version;
    this.addPage(page);
  }

  /** @param {any} page */
  addPage({ items, next }) {
    items.forEach((/** @type {InboxItem} */ item) => this.#items.set(item.id, item));
    this.next = next;
  }

  /**
   * @param {any} event
   * @returns {boolean} whether it is the next one, and suffices; otherwise the inbox has to be loaded
   */
  apply({ version, counts, item, replaces = [], omitted, changed = [], all }) {
    if (version !== this.version + 1 || omitted || (all && !this.#applyAll(all))) {
      return false;
    }
    replaces.forEach((/** @type {string} */ id) => this.#items.delete(id));
    if (item) {
      this.#items.set(item.id, item);
    }
    if (!changed.every((/** @type {any} */ state) => this.#applyState(state))) {
      return false;
    }
    this.version = version;
    this.#counts = counts;
    return true;
  }

  /**
   * @param {InboxMark[]} marks that the hub may not have yet
   * @returns {{items: readonly InboxItem[], counts: Readonly<InboxCounts>}}
   */
  shown(marks) {
    // Marked elsewhere, and not loaded here: they count, and are listed unless they are on a later page.
    const others = new Map(marks.flatMap(({ items = [] }) => items).map((item) => [item.id, item]));
    this.#items.forEach((_, id) => others.delete(id));
    const before = [...this.#items.values(), ...others.values()];
    const after = before.map((item) => marks.reduce(markedItem, item));
    const isShown = (/** @type {InboxItem} */ item) =>
      isListed(item, this.#filter) && (!others.has(item.id) || this.#isNear(item.id));
    return {
      items: Object.freeze(after.filter(isShown).sort(byAge)),
      counts: Object.freeze(markedCounts(this.#counts, before, after, marks)),
    };
  }

  /**
   * @param {string[]} ids
   * @returns {InboxItem[]} those that are loaded
   */
  known(ids) {
    return ids.flatMap((id) => this.#items.get(id) ?? []);
  }

  /**
   * @param {any} all
   * @returns {boolean}
   */
  #applyAll({ state: action, at: atMs, before }) {
    if (before || this.#filter.archived || !MARKS_OF_ALL.has(action)) {
      return false;
    }
    this.#items.forEach((known, id) => this.#items.set(id, markedItem(known, { action, atMs })));
    return true;
  }

  /**
   * @param {any} change
   * @returns {boolean}
   */
  #applyState({ deleted, ...state }) {
    const known = this.#items.get(state.id);
    if (deleted) {
      this.#items.delete(state.id);
    } else if (known) {
      this.#items.set(state.id, { ...known, ...state });
    }
    return deleted || known !== undefined || !this.#isMissing(state);
  }

  /**
   * @param {InboxItem} state of a notification that is not loaded
   * @returns {boolean} whether it may belong among those that are
   */
  #isMissing(state) {
    const { archived, unread } = this.#filter;
    return isListed(state, { archived, unread }) && this.#isNear(state.id);
  }

  /**
   * @param {string} id of a notification that is not loaded
   * @returns {boolean} whether its place is among those that are, and not on a later page
   */
  #isNear(id) {
    // Ids grow with time.
    const oldest = this.next === null ? "" : ([...this.#items.keys()].sort()[0] ?? "");
    return this.version >= 0 && id > oldest;
  }
}
