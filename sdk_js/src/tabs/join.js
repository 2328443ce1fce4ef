import { isAfter, parseCursor } from "../core/cursor.js";
import { lower } from "./lower.js";
import { isAbout, kindOf } from "./told.js";

/**
 * What a tab wants: channels, and of which of them joins and leaves as well; `since`: it was there before.
 *
 * @typedef {{channels?: string[], presence?: string[], since?: string}} Wanted
 */

/** @typedef {"channels" | "presence"} Kind */
/** @typedef {Record<Kind, Set<string>>} Has */
/** @typedef {Record<string, {recovered?: boolean, error?: object}>} Answers by name */
/** @typedef {import("./told.js").Said} Said */

/**
 * A wish of one tab's link, until it is answered.
 *
 * @typedef {object} Join
 * @property {string} id of the link
 * @property {boolean} first whether it has nothing yet: a connect
 * @property {string[]} channels
 * @property {string[]} presence
 * @property {string | undefined} since
 * @property {(answers: Record<Kind, Answers>, held: Said[]) => void} answer `held`: what came meanwhile, to anyone
 */

/**
 * The wishes that one request can have in it, those that recover first: all of them recover, or none.
 *
 * @param {Join[]} joins
 * @returns {Join[]}
 */
export function together(joins) {
  const { since } = joins.find((join) => join.since !== undefined) ?? { since: undefined };
  return joins.filter((join) => join.since === since || lower(join.since, since) !== undefined);
}

/**
 * What to ask of the hub for these wishes. A subscription that is asked for with a cursor begins anew there, for
 * everyone who has it: so it begins where all can go on. Without one, what is there already need not be asked for.
 *
 * @param {Join[]} joins which go together
 * @param {Has} has what the hub gives already
 * @param {string | undefined} cursor how far that has come
 * @returns {{channels: string[], presence: string[], since: string | undefined}}
 */
export function request(joins, has, cursor) {
  const [first, ...others] = joins.map((join) => join.since);
  const since = others.reduce(lower, first);
  const channels = new Set(joins.flatMap((join) => join.channels));
  const presence = new Set(joins.flatMap((join) => join.presence));
  const from = cursor === undefined ? since : lower(since, cursor);
  if (from === undefined) {
    return { channels: without(channels, has.channels), presence: without(presence, has.presence), since };
  }
  // To subscribe again would end the joins and leaves that others get.
  const kept = [...has.presence].filter((name) => channels.has(name));
  return { channels: [...channels], presence: [...new Set([...presence, ...kept])], since: from };
}

/**
 * The refusal of a whole request, as one of each name in it.
 *
 * @param {{channels: string[], presence: string[]}} wanted
 * @param {{error?: object}} answer
 * @returns {{channels: Answers, presence: Answers}}
 */
export function refusal({ channels, presence }, answer) {
  const each = (/** @type {string[]} */ names) => Object.fromEntries(names.map((name) => [name, answer]));
  return { channels: each(channels), presence: each(presence) };
}

/**
 * What a link is told when it is let in: `tidings:ready`, and what it missed.
 *
 * @param {Join} join
 * @param {{channels: Answers, presence: Answers}} ready
 * @param {string | undefined} cursor how far its channels have come
 * @param {Said[]} held what came since the hub was asked
 * @returns {Said[]}
 */
export function welcome({ since }, ready, cursor, held) {
  const missed = since === undefined ? [] : inOrder(held, ready);
  // Safe to remember at once: its own while something missed is still to come.
  return [{ event: "tidings:ready", values: [{ ...ready, cursor: missed.length > 0 ? since : cursor }] }, ...missed];
}

/**
 * What was held and belongs to a past that is whole, each channel's in the order of its seqs: what came live before
 * its subscription began anew is ahead of what was missed.
 *
 * @param {Said[]} held
 * @param {Record<Kind, Answers>} answers
 * @returns {Said[]}
 */
function inOrder(held, answers) {
  /** @type {Map<unknown, Said[]>} */
  const byChannel = new Map();
  const keyOf = (/** @type {Said} */ said) => (isAbout(said) ? said.values[1] : said);
  const whole = held.filter((said) => !isAbout(said) || answers[kindOf(said.event)][said.values[1]]?.recovered);
  for (const said of whole) {
    byChannel.set(keyOf(said), [...(byChannel.get(keyOf(said)) ?? []), said]);
  }
  for (const each of byChannel.values()) {
    each.sort((a, b) => order(a.values[2], b.values[2]));
  }
  return whole.map((said) => /** @type {Said} */ (byChannel.get(keyOf(said))?.shift()));
}

/**
 * @param {Set<string>} names
 * @param {Set<string>} others
 * @returns {string[]}
 */
function without(names, others) {
  return [...names].filter((name) => !others.has(name));
}

/**
 * @param {unknown} a
 * @param {unknown} b
 * @returns {number}
 */
function order(a, b) {
  const [one, other] = [parseCursor(a), parseCursor(b)];
  if (one === undefined || one.epoch !== other?.epoch || one.seq === other.seq) {
    return 0;
  }
  return isAfter(one.seq, other.seq) ? 1 : -1;
}
