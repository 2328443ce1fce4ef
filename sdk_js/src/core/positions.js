import { isAfter, parseCursor } from "./cursor.js";

/** @typedef {import("./cursor.js").Cursor} Cursor */

/**
 * The connection's cursor, and the last position received in each channel.
 *
 * A publication can arrive twice: the hub repairs what a node lost, and resends everything between an old cursor and a
 * subscription. Only the last seq of the same channel identifies the repetition.
 */
export class Positions {
  /** @type {Map<string, Cursor>} by channel */
  #last = new Map();

  /** @param {string | undefined} cursor the cursor of the page before this one */
  constructor(cursor) {
    /** @type {string | undefined} sent as `since` when the client reconnects */
    this.cursor = cursor;
  }

  /**
   * Moves the cursor forward. A cursor of another epoch counts as newer, because a hub ends the old epoch first.
   *
   * @param {unknown} text
   */
  advance(text) {
    if (typeof text === "string" && isNewer(parseCursor(text), parseCursor(this.cursor))) {
      this.cursor = text;
    }
  }

  /**
   * Records a publication.
   *
   * @param {string} channel
   * @param {string} text its cursor
   * @returns {boolean} whether it is new in its channel
   */
  accept(channel, text) {
    this.advance(text);
    return this.advanceChannel(channel, text);
  }

  /**
   * Moves a channel's position forward. Publications up to here are ignored from now on.
   *
   * @param {string} channel
   * @param {unknown} text
   * @returns {boolean} whether the position is further than before
   */
  advanceChannel(channel, text) {
    const next = parseCursor(text);
    const newer = isNewer(next, this.#last.get(channel));
    if (newer && next) {
      this.#last.set(channel, next);
    }
    return newer;
  }

  /**
   * Removes the position of a channel that has no listeners any more.
   *
   * @param {string} channel
   */
  forget(channel) {
    this.#last.delete(channel);
  }
}

/**
 * @param {Cursor | undefined} next undefined: the form of a later protocol version, which always counts as newer
 * @param {Cursor | undefined} last
 * @returns {boolean}
 */
function isNewer(next, last) {
  return next?.epoch !== last?.epoch || !next || !last || isAfter(next.seq, last.seq);
}
