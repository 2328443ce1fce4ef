import { isChannelEvent, kindOf } from "./messages.js";

/**
 * @typedef {import("./join_request.js").Kind} Kind
 * @typedef {import("./join_request.js").SubscribeResults} SubscribeResults
 * @typedef {import("./messages.js").HubEvent} HubEvent
 */

export const KINDS = /** @type {const} */ (["channels", "presence"]);

/** The subscriptions of one link: its channels, and those with join and leave events. */
export class LinkSubscriptions {
  channels = /** @type {Set<string>} */ (new Set());
  presence = /** @type {Set<string>} */ (new Set());
  /** Whether the hub refused one of its requests. */
  wasRefused = false;

  /**
   * Applies the results of the link's request.
   *
   * @param {SubscribeResults} results
   */
  applyResults(results) {
    // Subscribing to a channel again without presence ends its join and leave events.
    Object.keys(results.channels).forEach((name) => this.presence.delete(name));
    for (const kind of KINDS) {
      for (const [name, { error }] of Object.entries(results[kind])) {
        this[kind][error === undefined ? "add" : "delete"](name);
        this.wasRefused ||= error !== undefined;
      }
    }
  }

  /**
   * @param {HubEvent} hubEvent
   * @returns {boolean} whether the link receives it
   */
  receives(hubEvent) {
    return !isChannelEvent(hubEvent) || this[kindOf(hubEvent.event)].has(hubEvent.values[1]);
  }

  /** @param {{channels?: string[], presence?: string[]}} names */
  remove({ channels = [], presence = [] }) {
    channels.forEach((name) => this.channels.delete(name));
    // Join and leave events end with their channel.
    [...channels, ...presence].forEach((name) => this.presence.delete(name));
  }

  /**
   * The names that none of the other links has.
   *
   * @param {LinkSubscriptions[]} others
   * @param {string} userChannel a channel that cannot be unsubscribed
   * @returns {{channels: string[], presence: string[]} | undefined} undefined: there are none
   */
  unusedBy(others, userChannel) {
    const unused = (/** @type {Kind} */ kind) =>
      [...this[kind]].filter((name) => name !== userChannel && !others.some((other) => other[kind].has(name)));
    const channels = unused("channels");
    const presence = unused("presence");
    return channels.length + presence.length > 0 ? { channels, presence } : undefined;
  }

  /**
   * The effect of another link's results on this link.
   *
   * @param {Partial<SubscribeResults>} results
   * @returns {{isRefused: boolean, gap: SubscribeResults | undefined}} `isRefused`: a name of this link is not allowed
   *   any more
   */
  effectOf(results) {
    /** @type {SubscribeResults} */
    const gap = { channels: {}, presence: {} };
    let isRefused = false;
    let isGap = false;
    for (const kind of KINDS) {
      for (const name of this[kind]) {
        const { error, recovered } = results[kind]?.[name] ?? {};
        isRefused ||= error !== undefined;
        if (recovered === false) {
          gap[kind][name] = { recovered };
          isGap = true;
        }
      }
    }
    return { isRefused, gap: isGap ? gap : undefined };
  }
}
