// Types only: everything outside of the SDK that a session uses, so that tests can replace all of it.

/**
 * @typedef {object} Environment
 * @property {string} url of the hub, as the application gave it
 * @property {import("./socket.js").OpenLink} openLink
 * @property {{rows: () => Promise<typeof import("./core/rows.js")>, presence: () => Promise<any>, job: () =>
 *   Promise<typeof import("./job.js")>, inbox: () => Promise<typeof import("./inbox.js")>, push: () =>
 *   Promise<typeof import("./push.js")>}} parts what is loaded on first use
 * @property {() => number} nowMs
 * @property {import("./timers.js").SetTimer} setTimer
 * @property {() => number} random in [0, 1)
 * @property {(onWake: (wasCached?: unknown) => void, onLeave: () => void) => () => void} watch calls `onWake` when the
 *   network is back or the page is shown, with `true` if it comes from the back/forward cache, and `onLeave` when the
 *   page may be closed; returns a function that ends this
 * @property {SavedState} saved the state that the page before this one saved
 * @property {(state: SavedState) => void} save
 */

/** @typedef {{cursor?: string, channels: string[], user?: string | undefined}} SavedState `user`: whose state it is */

export {};
