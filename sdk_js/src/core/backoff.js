// 2**32 is far above the cap, and larger exponents could overflow.
const EXPONENT_MAX = 32;
const BASE_MS = 1000;
const CAP_MS = 20_000;

/**
 * The delay in milliseconds before the next connection attempt, after failure number `attempt` (the first is 0).
 *
 * Full jitter: uniform in [0, min(capMs, baseMs * 2**attempt)). The random factor is applied after the cap, so clients
 * that were disconnected together do not reconnect together. Source: AWS Architecture Blog, "Exponential Backoff and
 * Jitter" (2015).
 *
 * @param {number} attempt
 * @param {() => number} random in [0, 1)
 * @returns {number}
 */
export function delayMs(attempt, random) {
  return random() * Math.min(CAP_MS, BASE_MS * 2 ** Math.min(attempt, EXPONENT_MAX));
}
