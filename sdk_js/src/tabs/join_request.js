import { isAfter, minCursor, parseCursor } from "../core/cursor.js";
import { isChannelEvent, kindOf } from "./messages.js";

/**
 * The channels that a link subscribes to; `presence`: those with join and leave events; `since`: its cursor, if it was
 * connected before.
 *
 * @typedef {{channels?: string[], presence?: string[], since?: string}} JoinOptions
 */

/** @typedef {"channels" | "presence"} Kind */
/** @typedef {Record<Kind, Set<string>>} GrantedNames */
/** @typedef {Record<string, {recovered?: boolean, error?: object}>} Results by name */
/** @typedef {{channels: Results, presence: Results}} SubscribeResults */
/** @typedef {import("./messages.js").HubEvent} HubEvent */

/**
 * A subscribe request of one link that has no response yet.
 *
 * @typedef {object} JoinRequest
 * @property {string} id of the link
 * @property {boolean} isConnect whether the link is new
 * @property {string[]} channels
 * @property {string[]} presence
 * @property {string | undefined} since
 * @property {(results: SubscribeResults, held: HubEvent[]) => void} respond `held`: the events that arrived during the
 *   request, for any link
 */

/**
 * The requests that can be merged into one, starting with those that recover. All of them recover, or none does.
 *
 * @param {JoinRequest[]} joins
 * @returns {JoinRequest[]}
 */
export function compatible(joins) {
  const { since } = joins.find((join) => join.since !== undefined) ?? { since: undefined };
  return joins.filter((join) => join.since === since || minCursor(join.since, since) !== undefined);
}

/**
 * The request to the hub for these requests. A subscription with a cursor restarts there for every link that has the
 * channel, so it uses the lowest cursor. Without a cursor, names that are granted already are left out.
 *
 * @param {JoinRequest[]} joins compatible requests
 * @param {GrantedNames} granted the connection's subscriptions
 * @param {string | undefined} cursor the connection's cursor
 * @returns {{channels: string[], presence: string[], since: string | undefined}}
 */
export function mergeRequests(joins, granted, cursor) {
  const [first, ...others] = joins.map((join) => join.since);
  const lowest = others.reduce(minCursor, first);
  const channels = new Set(joins.flatMap((join) => join.channels));
  const presence = new Set(joins.flatMap((join) => join.presence));
  const since = cursor === undefined ? lowest : minCursor(lowest, cursor);
  if (since === undefined) {
    return {
      channels: difference(channels, granted.channels),
      presence: difference(presence, granted.presence),
      since: lowest,
    };
  }
  // Subscribing to a channel again ends its join and leave events, so those of other links are requested as well.
  const renewed = [...granted.presence].filter((name) => channels.has(name));
  return { channels: [...channels], presence: [...new Set([...presence, ...renewed])], since };
}

/**
 * The error of a whole request as the result of each of its names.
 *
 * @param {{channels: string[], presence: string[]}} names
 * @param {{error?: object}} response
 * @returns {SubscribeResults}
 */
export function errorResults({ channels, presence }, response) {
  const resultsOf = (/** @type {string[]} */ names) => Object.fromEntries(names.map((name) => [name, response]));
  return { channels: resultsOf(channels), presence: resultsOf(presence) };
}

/**
 * The first events for a new link: `tidings:ready`, then what it missed.
 *
 * @param {JoinRequest} join
 * @param {SubscribeResults} ready the body of `tidings:ready`
 * @param {string | undefined} cursor the connection's cursor
 * @param {HubEvent[]} held events that arrived during the request
 * @returns {HubEvent[]}
 */
export function readyEvents({ since }, ready, cursor, held) {
  const missed = since === undefined ? [] : recoveredEvents(held, ready);
  // The link may save this cursor at once. While missed events follow, only its old cursor is safe.
  return [{ event: "tidings:ready", values: [{ ...ready, cursor: missed.length > 0 ? since : cursor }] }, ...missed];
}

/**
 * The held events of recovered channels, with each channel's events in the order of their seqs. A live event that
 * arrived before the subscription restarted is ahead of the missed ones.
 *
 * @param {HubEvent[]} held
 * @param {SubscribeResults} results
 * @returns {HubEvent[]}
 */
function recoveredEvents(held, results) {
  /** @type {Map<unknown, HubEvent[]>} */
  const byChannel = new Map();
  const keyOf = (/** @type {HubEvent} */ hubEvent) => (isChannelEvent(hubEvent) ? hubEvent.values[1] : hubEvent);
  const recovered = held.filter((hubEvent) => {
    return !isChannelEvent(hubEvent) || results[kindOf(hubEvent.event)][hubEvent.values[1]]?.recovered;
  });
  for (const hubEvent of recovered) {
    byChannel.set(keyOf(hubEvent), [...(byChannel.get(keyOf(hubEvent)) ?? []), hubEvent]);
  }
  for (const events of byChannel.values()) {
    events.sort((a, b) => compareCursors(a.values[2], b.values[2]));
  }
  return recovered.map((hubEvent) => /** @type {HubEvent} */ (byChannel.get(keyOf(hubEvent))?.shift()));
}

/**
 * @param {Set<string>} names
 * @param {Set<string>} others
 * @returns {string[]} the names that are not in `others`
 */
function difference(names, others) {
  return [...names].filter((name) => !others.has(name));
}

/**
 * @param {unknown} textA
 * @param {unknown} textB
 * @returns {number}
 */
function compareCursors(textA, textB) {
  const [a, b] = [parseCursor(textA), parseCursor(textB)];
  if (a === undefined || a.epoch !== b?.epoch || a.seq === b.seq) {
    return 0;
  }
  return isAfter(a.seq, b.seq) ? 1 : -1;
}
