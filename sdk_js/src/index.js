import { connectWith } from "./connect.js";
import { LOADED_PARTS } from "./parts.js";

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
 * @typedef {import("./job.js").Job} Job
 * @typedef {import("./job.js").JobSnapshot} JobSnapshot
 * @typedef {import("./push.js").Push} Push
 * @typedef {import("./push.js").PushSnapshot} PushSnapshot
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

/**
 * Connects to the hub at `url`, and reconnects automatically. A server that renders pages connects on first use.
 *
 * @param {string | URL} url such as `https://push.example.org`, or relative to the page
 * @param {Options} [options]
 * @returns {Hub}
 */
export function connect(url, options = {}) {
  return connectWith(LOADED_PARTS, url, options);
}
