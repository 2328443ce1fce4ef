import { TidingsError } from "./error.js";

/** The digits and signs that Socket.IO puts around a request, with room for a long number. */
const FRAME_BYTES = 20;

/**
 * Validates what a request sends. Otherwise its encoding would fail in each attempt, until the time limit.
 *
 * @param {object} body
 * @throws {TidingsError} `bad_data`: it is no JSON, such as a BigInt or an object that contains itself
 */
export function checkJson(body) {
  try {
    JSON.stringify(body);
  } catch (cause) {
    throw new TidingsError("bad_data", `It is no JSON: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
}

/**
 * @param {string} event
 * @param {object} body
 * @returns {number} at least as many bytes as the request has in UTF-8
 */
export function requestBytes(event, body) {
  // React Native has no TextEncoder. JSON has no half of a surrogate pair, with which this would fail.
  return encodeURIComponent(JSON.stringify([event, body])).replace(/%../g, "_").length + FRAME_BYTES;
}
