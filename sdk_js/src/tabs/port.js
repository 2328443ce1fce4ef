import { isAbout, kindOf } from "./told.js";

/**
 * @typedef {import("./join.js").Answers} Answers
 * @typedef {import("./join.js").Kind} Kind
 * @typedef {import("./told.js").Said} Said
 */

/** @typedef {{channels: Answers, presence: Answers}} Both */

export const KINDS = /** @type {const} */ (["channels", "presence"]);

/** What one link gets: whose publications, and whose joins and leaves. */
export class Port {
  channels = /** @type {Set<string>} */ (new Set());
  presence = /** @type {Set<string>} */ (new Set());
  /** Whether it asked for something that it may not have. */
  refused = false;

  /**
   * What it asked for was answered.
   *
   * @param {Both} answers
   */
  grant(answers) {
    // Who subscribes again without asking for them wants no joins and leaves any more.
    Object.keys(answers.channels).forEach((name) => this.presence.delete(name));
    for (const kind of KINDS) {
      for (const [name, { error }] of Object.entries(answers[kind])) {
        this[kind][error === undefined ? "add" : "delete"](name);
        this.refused ||= error !== undefined;
      }
    }
  }

  /**
   * @param {Said} said
   * @returns {boolean} whether it is for it
   */
  gets(said) {
    return !isAbout(said) || this[kindOf(said.event)].has(said.values[1]);
  }

  /** @param {{channels?: string[], presence?: string[]}} left */
  leave({ channels = [], presence = [] }) {
    channels.forEach((name) => this.channels.delete(name));
    // They end with their channel.
    [...channels, ...presence].forEach((name) => this.presence.delete(name));
  }

  /**
   * What it has and none of these.
   *
   * @param {Port[]} ports
   * @param {string} own a channel that cannot be left
   * @returns {{channels: string[], presence: string[]} | undefined} undefined: nothing
   */
  without(ports, own) {
    const alone = (/** @type {Kind} */ kind) =>
      [...this[kind]].filter((name) => name !== own && !ports.some((port) => port[kind].has(name)));
    const channels = alone("channels");
    const presence = alone("presence");
    return channels.length + presence.length > 0 ? { channels, presence } : undefined;
  }

  /**
   * What others asked for was answered: what this means for it.
   *
   * @param {Partial<Both>} answers
   * @returns {{isRefused: boolean, gap: Both | undefined}} `isRefused`: it has something that may not be had any more
   */
  affected(answers) {
    /** @type {Both} */
    const gap = { channels: {}, presence: {} };
    let isRefused = false;
    let isGap = false;
    for (const kind of KINDS) {
      for (const name of this[kind]) {
        const { error, recovered } = answers[kind]?.[name] ?? {};
        isRefused ||= error !== undefined;
        if (recovered === false) {
          gap[kind][name] = { recovered };
          isGap = true;
        }
      }
    }
    return { isRefused, gap: isGap ? gap : undefined };
  }
}
