import { isAfter, parseCursor } from "./cursor.js";

/** @typedef {import("./cursor.js").Cursor} Cursor */

/**
 * One cursor for all channels, and how far each channel has come.
 *
 * The hub repairs what a node missed, and gives again what lies between an old cursor and a subscription: so a
 * channel's publications may come twice, and only its own last seq can tell.
 */
export class Positions {
  /** @type {Map<string, Cursor>} by channel */
  #last = new Map();

  /** @param {string | undefined} cursor where an earlier page was */
  constructor(cursor) {
    /** @type {string | undefined} what to give back to the hub */
    this.cursor = cursor;
  }

  /**
   * The hub says that this is safe to remember. Another epoch is a newer one, since a hub ends the old one first.
   *
   * @param {unknown} text
   */
  remember(text) {
    if (typeof text === "string" && isNewer(parseCursor(text), parseCursor(this.cursor))) {
      this.cursor = text;
    }
  }

  /**
   * A publication came; whether it is new.
   *
   * @param {string} channel
   * @param {string} text
   * @returns {boolean}
   */
  take(channel, text) {
    this.remember(text);
    return this.startAt(channel, text);
  }

  /**
   * What came in this channel up to here is known, or is in what the application loads.
   *
   * @param {string} channel
   * @param {unknown} text
   * @returns {boolean} whether that is further than before
   */
  startAt(channel, text) {
    const next = parseCursor(text);
    const newer = isNewer(next, this.#last.get(channel));
    if (newer && next !== undefined) {
      this.#last.set(channel, next);
    }
    return newer;
  }

  /**
   * Nobody listens to this channel any more.
   *
   * @param {string} channel
   */
  forget(channel) {
    this.#last.delete(channel);
  }
}

/**
 * @param {Cursor | undefined} next undefined: of a form that a later protocol may have; nobody can say that it is old
 * @param {Cursor | undefined} last
 * @returns {boolean}
 */
function isNewer(next, last) {
  return next?.epoch !== last?.epoch || next === undefined || last === undefined || isAfter(next.seq, last.seq);
}
