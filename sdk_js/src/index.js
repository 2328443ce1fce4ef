export { connect } from "./connect.js";
export { TidingsError } from "./core/error.js";

/**
 * @typedef {import("./hub.js").Hub} Hub
 * @typedef {import("./options.js").Options} Options
 * @typedef {import("./core/reconnect.js").State} State
 * @typedef {import("./core/reconnect.js").Transport} Transport
 * @typedef {import("./channel_types.js").Meta} Meta
 * @typedef {import("./channel_types.js").Receipt} Receipt
 * @typedef {import("./channel_types.js").HistoryEntry} Kept
 * @typedef {import("./core/subscriptions.js").ChannelState} ChannelState
 * @typedef {import("./presence.js").Presence} Presence
 * @typedef {import("./core/presence_snapshot.js").PresenceSnapshot} Present
 * @typedef {import("./core/presence_snapshot.js").Member} Member
 */

/**
 * @template {object} [Events=Record<string, any>]
 * @typedef {import("./hub.js").Channel<Events>} Channel
 */

/**
 * @template {object} Model
 * @typedef {import("./collection.js").Collection<Model>} Collection
 */

/**
 * @template {object} Model
 * @typedef {import("./collection.js").Snapshot<Model>} Snapshot
 */
