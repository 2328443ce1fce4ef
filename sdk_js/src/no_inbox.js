/**
 * What an inbox shows before it is loaded.
 *
 * @type {import("./inbox_types.js").InboxSnapshot}
 */
export const NO_INBOX = Object.freeze({
  items: Object.freeze([]),
  counts: Object.freeze({ unseen: 0, unread: 0 }),
  state: "loading",
  error: undefined,
  hasMore: false,
});
