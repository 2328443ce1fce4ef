// Types only: the options of `connect`.

/** @typedef {import("./core/reconnect.js").Transport} Transport */

/**
 * @typedef {object} Options
 * @property {(() => string | null | undefined | Promise<string | null | undefined>) | undefined} [getToken] returns a
 *   token for the current user. Called before a connect, and before the last token expires. Without a token the user
 *   counts as signed out: the connection closes
 * @property {readonly Transport[]} [transports] in the order in which to try them; a single one is always used. The
 *   default is WebSocket first, then long polling
 * @property {string} [keepAs] a key in sessionStorage: publications missed during a reload of the page in this tab are
 *   recovered
 * @property {number} [queueMax] how many requests may wait for a response; another one is rejected with `queue_full`.
 *   The default is 100, which is less than a hub accepts at once
 * @property {number} [requestTimeoutMs] how long a request may take, including the wait for a connection, before it is
 *   rejected with `timeout`; the default is 30,000
 * @property {boolean | string} [shareTabs] all tabs of this origin with the same address and the same value here share
 *   one connection, with the token of one of them. Pass the user's id to keep users apart
 */

export {};
