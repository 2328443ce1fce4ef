import { delayMs } from "./backoff.js";
import { comesBack } from "./codes.js";

/**
 * @typedef {import("./codes.js").End} End
 * @typedef {"websocket" | "polling"} Transport
 * @typedef {"closed" | "connecting" | "connected" | "waiting"} State
 * @typedef {"begin" | "due" | "wake" | "ready" | "lost" | "refused" | "end"} Seen
 */

/** What follows from what; what is not named changes nothing. */
export const NEXT = /** @type {const} */ ({
  closed: { begin: "connecting" },
  connecting: { ready: "connected", lost: "waiting", refused: "closed", end: "closed" },
  connected: { lost: "waiting", refused: "closed", end: "closed" },
  waiting: { begin: "connecting", due: "connecting", wake: "connecting", end: "closed" },
});

/** A connection that lived so long was good: the next failure is a first one. */
const STEADY_MS = 5000;
// The first attempt ends early, so that a network which swallows WebSockets is soon tried with long polling.
const FIRST_ATTEMPT_MS = 8000;
const ATTEMPT_MS = 20_000;

/**
 * Whether to be connected, when to try again, and by which transport first. No clock and no chance of its own.
 */
export class Course {
  /** @type {State} */
  state = "closed";
  #failures = 0;
  #readyAtMs = 0;
  #turned = false;
  #wanted;
  #random;

  /**
   * @param {readonly Transport[]} transports in the order in which the application wants them tried
   * @param {() => number} random
   */
  constructor(transports, random) {
    this.#wanted = transports;
    this.#random = random;
  }

  /** @returns {Transport[]} in the order in which to try them now */
  get transports() {
    return this.#turned ? this.#wanted.toReversed() : [...this.#wanted];
  }

  /** @returns {number} how long this attempt may take until it is ready */
  get attemptMs() {
    return this.#failures === 0 ? FIRST_ATTEMPT_MS : ATTEMPT_MS;
  }

  /**
   * @param {Seen} seen
   * @returns {boolean} whether that changed the state
   */
  see(seen) {
    /** @type {State | undefined} */
    const next = /** @type {Partial<Record<Seen, State>>} */ (NEXT[this.state])[seen];
    this.state = next ?? this.state;
    return next !== undefined;
  }

  /**
   * The hub has answered.
   *
   * @param {number} nowMs
   */
  ready(nowMs) {
    this.#readyAtMs = nowMs;
    return this.see("ready");
  }

  /**
   * The connection uses this transport now: what worked is tried first the next time.
   *
   * @param {Transport} transport
   */
  over(transport) {
    this.#turned = this.#wanted[0] === "websocket" && transport === "polling";
  }

  /**
   * The connection, or the attempt, has ended: milliseconds until the next, or undefined if there is none.
   *
   * @param {End} end
   * @param {number} nowMs
   * @returns {number | undefined}
   */
  lost(end, nowMs) {
    if (this.state === "connected" && nowMs - this.#readyAtMs >= STEADY_MS) {
      this.#failures = 0;
    } else if (this.state === "connecting" && end.code === undefined && end.number === undefined) {
      // Nobody said why: perhaps this transport does not get through.
      this.#turned = !this.#turned;
    }
    if (!comesBack(end)) {
      this.see("refused");
      return undefined;
    }
    this.see("lost");
    this.#failures += 1;
    return delayMs(this.#failures - 1, this.#random);
  }

  /** The application begins anew. */
  begin() {
    this.#failures = 0;
    return this.see("begin");
  }
}
