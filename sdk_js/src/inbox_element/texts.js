/**
 * The texts of `<tidings-inbox>`. `{n}` is a number, `{category}` a name. `method…` are the ways to receive a category,
 * in preferences.
 */
export const TEXTS = Object.freeze({
  title: "Notifications",
  open: "Notifications, {n} unseen",
  all: "All",
  unread: "Unread",
  archived: "Archived",
  markAllRead: "Mark all as read",
  markRead: "Mark as read",
  markUnread: "Mark as unread",
  archive: "Archive",
  unarchive: "Move to inbox",
  more: "More actions",
  turnOff: "Turn off “{category}”",
  turnOn: "Turn on “{category}”",
  preferences: "Preferences",
  back: "Back",
  close: "Close",
  loading: "Loading notifications",
  empty: "You're all caught up",
  emptyHint: "New notifications appear here.",
  emptyUnread: "No unread notifications",
  emptyArchived: "Nothing is archived",
  emptyArchivedHint: "What you archive is kept here.",
  failed: "Notifications could not be loaded",
  stale: "Not up to date",
  offline: "You are offline. Showing what was loaded.",
  retry: "Try again",
  undo: "Undo",
  isArchived: "Archived",
  isUnarchived: "Moved to inbox",
  isOff: "“{category}” is off",
  isOn: "“{category}” is on",
  actionFailed: "That did not work. Try again.",
  required: "Always on",
  arrived: "{n} unseen notifications",
  methodInApp: "In app",
  methodWebPush: "Push",
  methodWebhook: "Email or message",
});

/** @typedef {{[key in keyof typeof TEXTS]: string}} Texts */

/**
 * @param {string} text
 * @param {number | string} number
 * @returns {string}
 */
export function withNumber(text, number) {
  return text.replace("{n}", `${number}`);
}

/**
 * @param {string} text
 * @param {string} category
 * @returns {string}
 */
export function withCategory(text, category) {
  return text.replace("{category}", () => category);
}

/**
 * @param {string} name such as `order_shipped`
 * @returns {string} such as `Order shipped`
 */
export function readable(name) {
  const words = name.replace(/[_-]+/gu, " ").trim();
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/**
 * @param {{category: string, label?: string}} preference `label`: the name of the category if the hub has none
 * @returns {string}
 */
export function labelOf({ category, label }) {
  return label && label !== category ? label : readable(category);
}

/**
 * @param {string} method such as `in_app`
 * @param {Texts} texts
 * @returns {string}
 */
export function methodLabel(method, texts) {
  const key = `method${method.replace(/(?:^|_)([a-z])/gu, (_, letter) => letter.toUpperCase())}`;
  return /** @type {Record<string, string>} */ (texts)[key] ?? readable(method);
}

/** @type {[Intl.RelativeTimeFormatUnit, number][]} */
const UNITS = [
  ["year", 31_536_000_000],
  ["month", 2_592_000_000],
  ["week", 604_800_000],
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000],
];

/** @type {{language?: string | undefined, format: Intl.RelativeTimeFormat} | undefined} making one is slow */
let latest;

/**
 * @param {number} atMs
 * @param {number} nowMs
 * @param {string | undefined} language
 * @returns {string} such as `3 min. ago`
 */
export function relativeTime(atMs, nowMs, language) {
  if (latest?.language !== language || !latest) {
    latest = { language, format: new Intl.RelativeTimeFormat(language, { numeric: "auto", style: "short" }) };
  }
  // The clocks of the server and of the browser may differ: nothing is in the future.
  const elapsedMs = Math.max(0, nowMs - atMs);
  const [unit, unitMs] = UNITS.find(([, lengthMs]) => elapsedMs >= lengthMs) ?? ["second", Infinity];
  return latest.format.format(-Math.floor(elapsedMs / unitMs) || 0, unit);
}
