// Types only: the options of `connect`.

/** @typedef {import("./core/reconnect.js").Transport} Transport */

/** @typedef {{data?: any, dispose: (callback: () => void) => void}} HotModule Vite's or webpack's module API */

/**
 * @typedef {object} Options
 * @property {(() => string | null | undefined | Promise<string | null | undefined>) | undefined} [getToken] returns a
 *   token for the current user. Called before a connect, and before the last token expires. Without a token the user
 *   counts as signed out: the connection closes
 * @property {readonly Transport[] | undefined} [transports] in the order in which to try them; a single one is always
 *   used. The default is WebSocket first, then long polling
 * @property {string | undefined} [keepAs] a key in sessionStorage: publications missed during a reload of the page in
 *   this tab are recovered
 * @property {number | undefined} [queueMax] how many requests may wait for a response; another one is rejected with
 *   `queue_full`. The default is 100, which is less than a hub accepts at once
 * @property {number | undefined} [requestTimeoutMs] how long a request may take, including the wait for a connection,
 *   before it is rejected with `timeout`; the default is 30,000. From 2 ** 31 on, such as Infinity, there is no limit
 * @property {string | undefined} [keepQueueAs] a name in IndexedDB, with the user's id in it: the next page sends the
 *   publishes that still wait for a response, with the same ids
 * @property {boolean | string | undefined} [shareTabs] all tabs of this origin with the same address and the same value
 *   here share one connection, with the token of one of them. Pass the user's id to keep users apart
 * @property {HotModule | undefined} [hot] `import.meta.hot` of the calling module: when a development server replaces
 *   that module, its old hub closes
 */

export {};
