/**
 * Messages between tabs. On the BroadcastChannel each message also has `from` (the sending tab). Other forms there:
 *
 * - `{hello}`: which tab is the leader?
 * - `{lead}`: the sender is the leader.
 * - `{to, link, connect}`: a follower's link asks the leader to serve it; `connect` is its CONNECT payload.
 * - `{to, link, ask, event, body, timeoutMs}`: a follower's request number `ask` to the hub.
 * - `{to, answer, said}`: the response `said` to request number `answer`.
 * - `{to, events}`, `{to, transport}`, `{to, lost}`: a `LinkMessage` for some links.
 *
 * Tabs with different versions of the SDK exchange these messages. If a form changes, change `VERSION` in share.js.
 *
 * @typedef {import("../core/codes.js").CloseReason} CloseReason
 * @typedef {import("../core/reconnect.js").Transport} Transport
 */

/** @typedef {{event: string, values: any[]}} HubEvent an event as the hub sent it */

/**
 * What the multiplexer sends to a link: events of the hub, the transport in use, or the end of the connection. Events
 * that belong together are in one message: a link may save its cursor only when it has all of them.
 *
 * @typedef {{events: HubEvent[]} | {transport: Transport} | {lost: CloseReason}} LinkMessage
 */

/** The close reason for links whose leader lost its connection. They reconnect, to the next leader. */
export const LEADER_LOST = {
  code: "unavailable",
  message: "The tab that connects has no connection.",
  isHarmless: true,
};

/** All other events of a channel are publications, also those of the hub, such as `tidings:job`. */
const PRESENCE_EVENTS = new Set(["tidings:join", "tidings:leave", "tidings:stats"]);

/**
 * @param {CloseReason | undefined} reason why the leader lost its connection, if it was not on purpose
 * @returns {CloseReason} the reason for the other links
 */
export function lostThrough(reason = LEADER_LOST) {
  const { isHarmless, message } = reason;
  return isHarmless ? LEADER_LOST : { code: LEADER_LOST.code, message: `Through another tab: ${message}` };
}

/**
 * Calls the listener's method for a message.
 *
 * @param {LinkMessage} message
 * @param {import("../socket.js").LinkListener} listener
 */
export function dispatch(message, listener) {
  if ("events" in message) {
    message.events.forEach(({ event, values }) => listener.onEvent(event, values));
  } else if ("transport" in message) {
    listener.onTransport(message.transport);
  } else {
    listener.onLost(message.lost);
  }
}

/**
 * @param {HubEvent} hubEvent
 * @returns {boolean} whether it belongs to one channel: a publication, a join or a leave
 */
export function isChannelEvent({ values }) {
  // The cursor is the second value of other events, such as `tidings:gap`. It contains no colon.
  return typeof values[1] === "string" && values[1].includes(":");
}

/**
 * @param {string} event the name of a channel event
 * @returns {"channels" | "presence"} the kind of subscription that receives it
 */
export function kindOf(event) {
  return PRESENCE_EVENTS.has(event) ? "presence" : "channels";
}
