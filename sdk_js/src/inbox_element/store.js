// Types only: what the element needs of an inbox.

/**
 * The store of an inbox. Its snapshot is immutable, and each change creates a new one.
 *
 * @typedef {object} InboxStore
 * @property {(listener: () => void) => () => void} subscribe
 * @property {() => import("./panel.js").Snapshot} getSnapshot
 * @property {() => unknown} loadMore
 * @property {() => unknown} [reload] for the panel's retry; without it, retry calls `loadMore`
 * @property {() => unknown} markAllSeen
 * @property {(ids: string[]) => unknown} markRead
 * @property {(ids: string[]) => unknown} markUnread
 * @property {() => unknown} markAllRead
 * @property {(ids: string[]) => unknown} archive
 * @property {() => Promise<any>} preferences
 * @property {(category: string, method: string, enabled: boolean) => Promise<any>} setPreference
 */

export {};
