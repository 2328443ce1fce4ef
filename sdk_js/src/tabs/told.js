/**
 * What a switchboard tells a link: events of the hub, the transport that it uses, or the end. Events that are told
 * together come together: a cursor may be remembered when all of them are known.
 *
 * @typedef {import("../core/codes.js").End} End
 * @typedef {import("../core/course.js").Transport} Transport
 * @typedef {{event: string, values: any[]}} Said
 * @typedef {{events: Said[]} | {transport: Transport} | {lost: End}} Told
 */

/** For those whose connection this was: they come back, to the next one. */
export const GONE = { code: "unavailable", message: "The tab that connects has no connection." };

/**
 * @param {Told} told
 * @param {import("../socket.js").LinkListener} listener
 */
export function pass(told, listener) {
  if ("events" in told) {
    told.events.forEach(({ event, values }) => listener.event(event, values));
  } else if ("transport" in told) {
    listener.transport(told.transport);
  } else {
    listener.lost(told.lost);
  }
}

/**
 * @param {Said} said
 * @returns {boolean} whether it is about one channel: a publication, or who came and went
 */
export function isAbout({ values }) {
  return typeof values[1] === "string";
}

/**
 * @param {string} event one about a channel
 * @returns {"channels" | "presence"} for whom it is
 */
export function kindOf(event) {
  return event.startsWith("tidings:") ? "presence" : "channels";
}
