// Types only: what an inbox takes, shows and needs.

/**
 * @typedef {import("./core/error.js").TidingsError} TidingsError
 * @typedef {import("./core/inbox_marks.js").InboxCounts} InboxCounts
 * @typedef {import("./core/inbox_marks.js").InboxItem} InboxItem
 */

/**
 * `category`: only this one. `archived`: the archived ones instead of the others. `unread`: only unread ones. `limit`:
 * of one page, 1 to 100.
 *
 * @typedef {{category?: string | undefined, archived?: boolean | undefined, unread?: boolean | undefined,
 *   limit?: number | undefined}} InboxOptions
 */

/**
 * `counts`: of the whole inbox. `failed`: `items` are not up to date, and `error` is why.
 *
 * @typedef {Readonly<{items: readonly Readonly<InboxItem>[], counts: Readonly<InboxCounts>,
 *   state: "loading" | "ready" | "failed", error: TidingsError | undefined, hasMore: boolean}>} InboxSnapshot
 */

/** @typedef {{category: string, label: string, required: boolean, methods: any}} InboxPreference */

/**
 * What an inbox needs of the hub.
 *
 * @typedef {object} InboxHub
 * @property {string} state
 * @property {string | undefined} user
 * @property {TidingsError | undefined} error
 * @property {() => void} connect
 * @property {(event: "state", listener: () => void) => () => void} on
 * @property {(name: string) => {on: (event: any, listener: any) => () => void}} channel
 */

/**
 * @typedef {{outbox: {request: (event: string, body: object) => Promise<any>},
 *   environment: {setTimer: import("./timers.js").SetTimer, random: () => number}}} InboxSession
 */

export {};
