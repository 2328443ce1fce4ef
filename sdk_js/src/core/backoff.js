// Past 2**32 every cap has long been reached.
const EXPONENT_MAX = 32;
const BASE_MS = 1000;
const CAP_MS = 20_000;

/**
 * Milliseconds to wait before connecting again after failure number `attempt` (the first is 0).
 *
 * Full jitter: uniform in [0, min(capMs, baseMs * 2**attempt)). The draw comes after the cap, so those dropped
 * together never return together. Source: AWS Architecture Blog, "Exponential Backoff and Jitter" (2015).
 *
 * @param {number} attempt
 * @param {() => number} random in [0, 1)
 * @returns {number}
 */
export function delayMs(attempt, random) {
  return random() * Math.min(CAP_MS, BASE_MS * 2 ** Math.min(attempt, EXPONENT_MAX));
}
