import { delayMs } from "./backoff.js";
import { isRetryable } from "./codes.js";
import { checkTransports } from "./limits.js";

/**
 * @typedef {import("./codes.js").CloseReason} CloseReason
 * @typedef {"websocket" | "polling"} Transport
 * @typedef {"closed" | "connecting" | "connected" | "waiting"} State
 * @typedef {"start" | "retry" | "wake" | "ready" | "lost" | "refused" | "stop"} ConnectionEvent
 */

/** The next state for each state and event. An event that is not listed for a state is ignored. */
export const TRANSITIONS = /** @type {const} */ ({
  closed: { start: "connecting" },
  connecting: { ready: "connected", lost: "waiting", refused: "closed", stop: "closed" },
  connected: { lost: "waiting", refused: "closed", stop: "closed" },
  waiting: { start: "connecting", retry: "connecting", wake: "connecting", stop: "closed" },
});

/** A connection that lasted this long resets the back-off. */
const STABLE_MS = 5000;
// The first attempt times out early: if a network silently drops WebSockets, long polling is tried soon.
const FIRST_ATTEMPT_MS = 8000;
const ATTEMPT_MS = 20_000;

/**
 * The connection's state machine: whether to connect, when to retry, and which transport to try first. It has no clock
 * and no randomness of its own.
 */
export class ReconnectState {
  /** @type {State} */
  state = "closed";
  #failures = 0;
  #readyAtMs = 0;
  #isReversed = false;
  #preferred;
  #random;

  /**
   * @param {readonly Transport[]} transports in the application's order of preference
   * @param {() => number} random
   * @throws {import("./error.js").TidingsError} `bad_option`
   */
  constructor(transports, random) {
    this.#preferred = checkTransports(transports);
    this.#random = random;
  }

  /** @returns {Transport[]} the transports in the order of the next attempt */
  get transports() {
    const transports = [...this.#preferred];
    return this.#isReversed ? transports.reverse() : transports;
  }

  /** @returns {number} the time limit of this attempt, until `tidings:ready` */
  get attemptMs() {
    return this.#failures ? ATTEMPT_MS : FIRST_ATTEMPT_MS;
  }

  /**
   * Applies an event.
   *
   * @param {ConnectionEvent} event
   * @returns {boolean} whether the state changed
   */
  apply(event) {
    /** @type {State | undefined} */
    const next = /** @type {Partial<Record<ConnectionEvent, State>>} */ (TRANSITIONS[this.state])[event];
    this.state = next ?? this.state;
    return next !== undefined;
  }

  /**
   * The hub sent `tidings:ready`.
   *
   * @param {number} nowMs
   */
  onReady(nowMs) {
    this.#readyAtMs = nowMs;
    return this.apply("ready");
  }

  /**
   * The connection uses this transport now. The next attempt tries it first.
   *
   * @param {Transport} transport
   */
  onTransport(transport) {
    this.#isReversed = this.#preferred[0] === "websocket" && transport === "polling";
  }

  /**
   * The connection or the attempt ended.
   *
   * @param {CloseReason} reason
   * @param {number} nowMs
   * @returns {number | undefined} milliseconds until the next attempt; undefined: do not reconnect
   */
  onLost(reason, nowMs) {
    const { code, number } = reason;
    if (this.state === "connected" && nowMs - this.#readyAtMs >= STABLE_MS) {
      this.#failures = 0;
    } else if (this.state === "connecting" && (code === "connect_timeout" || (code ?? number) === undefined)) {
      // The hub gave no reason, or received nothing. So the network may block this transport: try the other one first.
      this.#isReversed = !this.#isReversed;
    }
    if (!isRetryable(reason)) {
      this.apply("refused");
      return undefined;
    }
    this.apply("lost");
    this.#failures += 1;
    return delayMs(this.#failures - 1, this.#random);
  }

  /** Starts connecting, at the application's request. Resets the back-off. */
  start() {
    this.#failures = 0;
    return this.apply("start");
  }
}
