export { connect } from "./connect.js";
export { TidingsError } from "./core/error.js";

/**
 * @typedef {import("./hub.js").Hub} Hub
 * @typedef {import("./hub.js").Options} Options
 * @typedef {import("./hub.js").State} State
 * @typedef {import("./hub.js").Transport} Transport
 * @typedef {import("./channel.js").Meta} Meta
 * @typedef {import("./channel.js").Receipt} Receipt
 * @typedef {import("./channel.js").Kept} Kept
 * @typedef {import("./core/subscriptions.js").ChannelState} ChannelState
 * @typedef {import("./presence.js").Presence} Presence
 * @typedef {import("./presence.js").Present} Present
 * @typedef {import("./presence.js").Member} Member
 */

/**
 * @template {object} [Events=Record<string, any>]
 * @typedef {import("./channel.js").Channel<Events>} Channel
 */

/**
 * @template {object} Model
 * @typedef {import("./collection.js").Collection<Model>} Collection
 */

/**
 * @template {object} Model
 * @typedef {import("./collection.js").Snapshot<Model>} Snapshot
 */
