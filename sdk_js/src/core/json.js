import { messageOf, TidingsError } from "./error.js";

/** The digits and signs that Socket.IO puts around a request, with room for a long number. */
const FRAME_BYTES = 20;

/** The deepest nesting of data (PROTOCOL.md section 3), and the level of the request around it. */
const DEPTH_MAX = 65;
const NOT_BRACKETS = /"[^"]*"|[^[\]{}]/g;

/**
 * Validates what a request sends. Otherwise its encoding would fail in each attempt, until the time limit, or the hub
 * would close the connection.
 *
 * @param {object} body
 * @throws {TidingsError} `bad_data`: it is no JSON, such as a BigInt, a file, or an object that contains itself
 */
export function checkJson(body) {
  try {
    let brackets = JSON.stringify(body, checkValue).replace(/\\./g, "").replace(NOT_BRACKETS, "");
    for (let depth = 0; brackets; depth += 1) {
      if (depth === DEPTH_MAX) {
        throw new Error("too deep");
      }
      brackets = brackets.replace(/\[]|{}/g, "");
    }
  } catch (cause) {
    throw new TidingsError("bad_data", `It is no JSON: ${messageOf(cause)}`, { cause });
  }
}

/**
 * @this {any} the object that has this value
 * @param {string} key
 * @param {unknown} value
 * @returns {unknown} `value`
 * @throws {Error} it is binary: JSON would contain an empty object
 */
function checkValue(key, value) {
  if (ArrayBuffer.isView(this[key]) || /(Buffer|Blob|File)]$/.test({}.toString.call(this[key]))) {
    throw new Error(`${key} is binary`);
  }
  return value;
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
