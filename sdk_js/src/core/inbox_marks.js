/**
 * A notification, as a page of the inbox and an event have it. Times are in milliseconds since 1970, or null.
 *
 * @typedef {{id: string, category: string, title: string, count: number, created_at: number, seen_at: number | null,
 *   read_at: number | null, archived_at: number | null, body?: string, url?: string, icon?: string, data?: any,
 *   group?: string, expires_at?: number}} InboxItem
 */

/** @typedef {{unseen: number, unread: number}} InboxCounts */
/** @typedef {"seen" | "read" | "unread" | "archive" | "unarchive"} InboxAction */

/**
 * A mark that the page shows, although the hub may not have it yet. `items`: those of the ids that were loaded where it
 * was made, as the hub has them.
 *
 * @typedef {{action: InboxAction, ids?: string[] | undefined, items?: InboxItem[] | undefined, atMs: number}} InboxMark
 */

/** The time that an action changes, and whether it sets it. */
const TIMES = /** @type {const} */ ({
  seen: ["seen_at", true],
  read: ["read_at", true],
  unread: ["read_at", false],
  archive: ["archived_at", true],
  unarchive: ["archived_at", false],
});

/**
 * @param {InboxItem} item
 * @param {InboxMark} mark
 * @returns {InboxItem} the item itself if the mark changes nothing
 */
export function markedItem(item, { action, ids, atMs }) {
  if (ids ? !ids.includes(item.id) : item.archived_at !== null) {
    return item;
  }
  const [key, isSet] = TIMES[action];
  if ((item[key] !== null) === isSet) {
    return item;
  }
  const marked = { ...item, [key]: isSet ? atMs : null };
  return action === "read" ? { ...marked, seen_at: item.seen_at ?? atMs } : marked;
}

/**
 * The counts after marks. Items that are not loaded change them only with a mark of all.
 *
 * @param {InboxCounts} counts those of the hub
 * @param {InboxItem[]} before
 * @param {InboxItem[]} after the same items, marked
 * @param {InboxMark[]} marks
 * @returns {InboxCounts}
 */
export function markedCounts({ unseen, unread }, before, after, marks) {
  const actions = marks.filter(({ ids }) => !ids).map(({ action }) => action);
  const areRead = actions.includes("read") || actions.includes("archive");
  const change = (/** @type {"seen_at" | "read_at"} */ key) => countOf(after, key) - countOf(before, key);
  return {
    unseen: areRead || actions.includes("seen") ? 0 : Math.max(0, unseen + change("seen_at")),
    unread: areRead ? 0 : Math.max(0, unread + change("read_at")),
  };
}

/**
 * @param {InboxItem[]} items
 * @param {"seen_at" | "read_at"} key
 * @returns {number} how many count as unseen or unread: archived ones do not
 */
function countOf(items, key) {
  return items.filter((item) => item[key] === null && item.archived_at === null).length;
}

/**
 * @param {InboxItem} a
 * @param {InboxItem} b
 * @returns {number} newest first
 */
export function byAge(a, b) {
  return b.created_at - a.created_at || (a.id < b.id ? 1 : -1);
}

/**
 * @param {InboxItem} item
 * @param {{category?: string | undefined, archived?: boolean | undefined, unread?: boolean | undefined}} options
 * @returns {boolean} whether an inbox with these options lists it
 */
export function isListed(item, { category, archived = false, unread }) {
  const isInPlace = (item.archived_at !== null) === archived;
  return isInPlace && (category === undefined || item.category === category) && !(unread && item.read_at !== null);
}
