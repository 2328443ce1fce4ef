import { TidingsError } from "./error.js";

/** The longest delay of a JavaScript timer: 24 days. A longer one would end at once. */
export const TIMER_MAX_MS = 2 ** 31 - 1;

const TRANSPORTS = /^((websocket|polling),){1,2}$/;

/**
 * Validates an option that is a number.
 *
 * @param {string} option its name
 * @param {any} value
 * @returns {number} `value` itself
 * @throws {TidingsError} `bad_option`
 */
export function checkLimit(option, value) {
  return check(option, value, typeof value === "number" && value > 0, "a number above 0, or Infinity");
}

/**
 * Validates the option `transports`.
 *
 * @template Transports
 * @param {Transports} value
 * @returns {Transports} `value` itself
 * @throws {TidingsError} `bad_option`
 */
export function checkTransports(value) {
  const isValid = Array.isArray(value) && TRANSPORTS.test(`${value},`);
  return check("transports", value, isValid, '["websocket", "polling"], or an array of one');
}

/**
 * @template Value
 * @param {string} option
 * @param {Value} value
 * @param {boolean} isValid
 * @param {string} needed
 * @returns {Value}
 */
function check(option, value, isValid, needed) {
  if (!isValid) {
    throw new TidingsError("bad_option", `${option} is ${value}: pass ${needed}.`);
  }
  return value;
}
