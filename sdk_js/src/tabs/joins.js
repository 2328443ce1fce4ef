import { parseCursor } from "../core/cursor.js";
import { request, together } from "./join.js";

/**
 * @typedef {import("./join.js").Has} Has
 * @typedef {import("./join.js").Join} Join
 */

/** What links want and do not have yet: those that wait, and those that the hub is being asked for. */
export class Joins {
  /** @type {Join[]} */
  #waiting = [];
  /** @type {Join[]} */
  #asked = [];

  /** @returns {string[]} ids of their links */
  get ids() {
    return [...this.#waiting, ...this.#asked].map((join) => join.id);
  }

  /** @returns {boolean} whether the hub is being asked */
  get areAsked() {
    return this.#asked.length > 0;
  }

  /**
   * @param {string} id
   * @param {import("./join.js").Wanted} wanted
   * @param {boolean} first
   * @param {Join["answer"]} answer
   * @returns {Join}
   */
  add(id, { channels = [], presence = [], since }, first, answer) {
    // A cursor of a form that is not known here cannot be compared: then nothing is known of the past.
    const from = first && parseCursor(since) ? since : undefined;
    const join = { id, first, channels, presence, since: from, answer };
    this.#waiting.push(join);
    return join;
  }

  /** @param {string} id of a link that is gone */
  drop(id) {
    this.#waiting = this.#waiting.filter((join) => join.id !== id);
    this.#asked = this.#asked.filter((join) => join.id !== id);
  }

  /**
   * Takes up what goes into one request.
   *
   * @param {Has} has what the hub gives already
   * @param {string | undefined} cursor how far that has come
   * @param {string | undefined} user a user's own channel comes with the connection; undefined: nobody knows yet
   * @returns {ReturnType<request>}
   */
  take(has, cursor, user) {
    this.#asked = together(this.#waiting);
    this.#waiting = this.#waiting.filter((join) => !this.#asked.includes(join));
    this.#name(user);
    return request(this.#asked, has, cursor);
  }

  /**
   * The hub has answered.
   *
   * @param {string | undefined} user
   * @returns {Join[]} those that it was asked for
   */
  answered(user) {
    this.#name(user);
    const asked = this.#asked;
    this.#asked = [];
    return asked;
  }

  /** @param {string | undefined} user */
  #name(user) {
    for (const join of this.#asked) {
      if (join.first && user !== undefined) {
        join.channels = [...new Set(join.channels).add(`user:${user}`)];
      }
    }
  }
}
