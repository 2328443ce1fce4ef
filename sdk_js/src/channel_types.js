// Types only: what channels deliver and return.

/**
 * @typedef {import("./core/error.js").TidingsError} TidingsError
 * @typedef {import("./core/subscriptions.js").ChannelState} ChannelState
 */

/**
 * @typedef {object} Meta
 * @property {string} event
 * @property {string} channel
 * @property {string} cursor the publication's position; opaque
 */

/**
 * @typedef {object} Receipt
 * @property {string} id
 * @property {string} cursor
 * @property {boolean} duplicate whether a publication with this id existed already
 */

/**
 * @typedef {object} HistoryEntry a publication from the channel's history
 * @property {string} event
 * @property {any} data
 * @property {string} id
 * @property {string} cursor
 * @property {number} atMs when it was published, in milliseconds since 1970
 */

/**
 * Events of the channel itself. `tidings:state`: its state, and the error if it is `denied`. `tidings:recovered`: the
 * connection was lost and is back; all missed publications follow. `tidings:gap`: publications are missing; load the
 * data again.
 *
 * @typedef {{
 *   "tidings:state": (state: ChannelState, error: TidingsError | undefined) => void,
 *   "tidings:recovered": (channel: string) => void,
 *   "tidings:gap": (channel: string) => void,
 * }} ChannelEvents
 */

/**
 * The listener for an event of a channel.
 *
 * @template {object} Events
 * @template {(keyof Events & string) | "*" | keyof ChannelEvents} Event
 * @typedef {Event extends keyof ChannelEvents ? ChannelEvents[Event]
 *   : (data: Event extends keyof Events ? Events[Event] : Events[keyof Events], meta: Meta) => void} Handler
 */

export {};
