const FORM = /^([\w-]{1,32})\.(0|[1-9]\d{0,18})(?:~[\w-]{1,32}\.(?:0|[1-9]\d{0,18})){0,15}$/;

/** @typedef {{epoch: string, seq: string}} Cursor `seq` is decimal: it may be larger than a number holds */

/**
 * The parts of a cursor's first place (PROTOCOL.md section 1), which is a publication's own; undefined if it is none.
 *
 * @param {unknown} text
 * @returns {Cursor | undefined}
 */
export function parseCursor(text) {
  const [, epoch, seq] = (typeof text === "string" && FORM.exec(text)) || [];
  return epoch === undefined || seq === undefined ? undefined : { epoch, seq };
}

/**
 * Whether seq `a` is higher than `b`. Decimals without leading zeros: the longer one is.
 *
 * @param {string} a
 * @param {string} b
 * @returns {boolean}
 */
export function isAfter(a, b) {
  return a.length === b.length ? a > b : a.length > b.length;
}
