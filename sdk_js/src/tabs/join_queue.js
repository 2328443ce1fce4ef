import { parseCursor } from "../core/cursor.js";
import { compatible, mergeRequests } from "./join_request.js";

/**
 * @typedef {import("./join_request.js").GrantedNames} GrantedNames
 * @typedef {import("./join_request.js").JoinRequest} JoinRequest
 */

/** The links' subscribe requests: those that wait, and the batch that the hub has not responded to. */
export class JoinQueue {
  /** @type {JoinRequest[]} */
  #waiting = [];
  /** @type {JoinRequest[]} */
  #pending = [];

  /** @returns {string[]} ids of the links */
  get ids() {
    return [...this.#waiting, ...this.#pending].map((join) => join.id);
  }

  /** @returns {boolean} whether a request to the hub has no response yet */
  get isPending() {
    return this.#pending.length > 0;
  }

  /**
   * @param {string} id of the link
   * @param {import("./join_request.js").JoinOptions} options
   * @param {boolean} isConnect
   * @param {JoinRequest["respond"]} respond
   * @returns {JoinRequest}
   */
  add(id, { channels = [], presence = [], since }, isConnect, respond) {
    // A cursor of an unknown form cannot be compared, so the link cannot recover from it.
    const comparable = isConnect && parseCursor(since) ? since : undefined;
    const join = { id, isConnect, channels, presence, since: comparable, respond };
    this.#waiting.push(join);
    return join;
  }

  /** @param {string} id of a link that ended */
  remove(id) {
    this.#waiting = this.#waiting.filter((join) => join.id !== id);
    this.#pending = this.#pending.filter((join) => join.id !== id);
  }

  /**
   * Takes the requests that fit into one request to the hub.
   *
   * @param {GrantedNames} granted the connection's subscriptions
   * @param {string | undefined} cursor the connection's cursor
   * @param {string | undefined} user its own channel needs no request; undefined: not known yet
   * @returns {ReturnType<mergeRequests>}
   */
  takeBatch(granted, cursor, user) {
    this.#pending = compatible(this.#waiting);
    this.#waiting = this.#waiting.filter((join) => !this.#pending.includes(join));
    this.#addUserChannel(user);
    return mergeRequests(this.#pending, granted, cursor);
  }

  /**
   * The hub responded.
   *
   * @param {string | undefined} user
   * @returns {JoinRequest[]} the requests of the batch
   */
  finishBatch(user) {
    this.#addUserChannel(user);
    const batch = this.#pending;
    this.#pending = [];
    return batch;
  }

  /** @param {string | undefined} user */
  #addUserChannel(user) {
    for (const join of this.#pending) {
      if (join.isConnect && user !== undefined) {
        join.channels = [...new Set(join.channels).add(`user:${user}`)];
      }
    }
  }
}
