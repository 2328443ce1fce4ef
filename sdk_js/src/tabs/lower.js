import { isAfter, parseCursor } from "../core/cursor.js";

/**
 * The cursor from which both can go on: the lower place in each sequence. Undefined if they are not of the same
 * sequences, or if one is no cursor: then nothing is known of what lies between them.
 *
 * @param {string | undefined} a
 * @param {string | undefined} b
 * @returns {string | undefined}
 */
export function lower(a, b) {
  const others = places(b);
  const own = [...places(a)];
  if (own.length !== others.size || own.some(([epoch]) => !others.has(epoch))) {
    return undefined;
  }
  return own.map(([epoch, seq]) => `${epoch}.${least(seq, String(others.get(epoch)))}`).join("~") || undefined;
}

/**
 * @param {string | undefined} cursor
 * @returns {Map<string, string>} seq by epoch (PROTOCOL.md section 1)
 */
function places(cursor) {
  const each = parseCursor(cursor) === undefined ? [] : String(cursor).split("~");
  return new Map(each.map((place) => /** @type {[string, string]} */ (place.split("."))));
}

/**
 * @param {string} a
 * @param {string} b
 * @returns {string}
 */
function least(a, b) {
  return isAfter(a, b) ? b : a;
}
