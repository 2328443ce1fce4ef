const FORM = /^([\w-]{1,32})\.(0|[1-9]\d{0,18})(?:~[\w-]{1,32}\.(?:0|[1-9]\d{0,18})){0,15}$/;

/** @typedef {{epoch: string, seq: string}} Cursor `seq` is decimal: it can exceed the range of a number */

/**
 * The epoch and seq of a cursor's first place (PROTOCOL.md section 1), which is the publication's own.
 *
 * @param {unknown} text
 * @returns {Cursor | undefined} undefined: `text` is not a valid cursor
 */
export function parseCursor(text) {
  const [, epoch, seq] = (typeof text === "string" && FORM.exec(text)) || [];
  return epoch && seq ? { epoch, seq } : undefined;
}

/**
 * Whether seq `a` is higher than `b`. Both are decimals without leading zeros, so the longer one is higher.
 *
 * @param {string} a
 * @param {string} b
 * @returns {boolean}
 */
export function isAfter(a, b) {
  return a.length === b.length ? a > b : a.length > b.length;
}

/**
 * The cursor from which both clients can recover: the lower place for each epoch.
 *
 * @param {string | undefined} a
 * @param {string | undefined} b
 * @returns {string | undefined} undefined: the epochs differ or one is not a cursor, so the two cannot be compared
 */
export function minCursor(a, b) {
  const places = [...parsePlaces(a)];
  const otherPlaces = parsePlaces(b);
  if (places.length !== otherPlaces.size || places.some(([epoch]) => !otherPlaces.has(epoch))) {
    return undefined;
  }
  return places.map(([epoch, seq]) => `${epoch}.${minSeq(seq, String(otherPlaces.get(epoch)))}`).join("~") || undefined;
}

/**
 * @param {string | undefined} cursor
 * @returns {Map<string, string>} seq by epoch (PROTOCOL.md section 1)
 */
function parsePlaces(cursor) {
  const places = parseCursor(cursor) === undefined ? [] : String(cursor).split("~");
  return new Map(places.map((place) => /** @type {[string, string]} */ (place.split("."))));
}

/**
 * @param {string} a
 * @param {string} b
 * @returns {string}
 */
function minSeq(a, b) {
  return isAfter(a, b) ? b : a;
}
