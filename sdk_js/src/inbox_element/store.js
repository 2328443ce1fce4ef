// Types only: what the element needs of an inbox.

/**
 * The store of an inbox. Its snapshot is immutable, and each change creates a new one.
 *
 * @typedef {object} InboxStore
 * @property {(listener: () => void) => () => void} subscribe
 * @property {() => import("./panel.js").Snapshot} getSnapshot
 * @property {() => unknown} loadMore
 * @property {() => unknown} [retry] after a failure; without it, the panel calls `reload` or `loadMore`
 * @property {() => unknown} [reload]
 * @property {() => unknown} markAllSeen
 * @property {(ids: string[]) => unknown} markRead
 * @property {(ids: string[]) => unknown} markUnread
 * @property {() => unknown} markAllRead
 * @property {(ids: string[]) => unknown} archive
 * @property {(ids: string[]) => unknown} [unarchive] for the menu of an archived notification, and to undo `archive`
 * @property {(options: {unread?: boolean, archived?: boolean}) => InboxPart} [part] another part of the same inbox;
 *   without it, the panel has no archive, and its unread ones are those among the loaded ones
 * @property {() => Promise<any>} preferences
 * @property {(category: string, method: string, enabled: boolean) => Promise<any>} setPreference
 */

/** @typedef {InboxStore & {close: () => void}} InboxPart */

export {};
