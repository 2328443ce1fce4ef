// Types only: what the SDK asks of its surroundings, so that a test can be all of them.

/**
 * The world, as far as a session needs it. `watch` calls `wake` when the network is back or the page is shown, and
 * `leave`
 * when the page may go; it returns what ends that.
 *
 * @typedef {object} World
 * @property {import("./socket.js").OpenLink} open
 * @property {() => number} nowMs
 * @property {import("./timers.js").After} after
 * @property {() => number} random in [0, 1)
 * @property {(wake: () => void, leave: () => void) => () => void} watch
 * @property {Kept} kept what an earlier page left
 * @property {(kept: Kept) => void} keep
 */

/** @typedef {{cursor?: string, channels: string[]}} Kept */

export {};
