/**
 * An error with a code for programs to compare. The code is one of PROTOCOL.md section 4, or one of the SDK's own:
 * `closed` (the application closed the connection), `queue_full` (too many requests are waiting), `no_token` (getToken
 * failed), `not_loaded` (a part of the SDK could not be loaded; the SDK retries).
 */
export class TidingsError extends Error {
  /**
   * @param {string} code
   * @param {string} message what to do next
   * @param {ErrorOptions} [options]
   */
  constructor(code, message, options) {
    super(message, options);
    this.name = "TidingsError";
    /** @readonly */
    this.code = code;
  }
}

/**
 * The error in a hub's response: `{"code", "message"}`. A malformed one becomes an error with the code `unknown`.
 *
 * @param {{code?: unknown, message?: unknown}} error
 * @returns {TidingsError}
 */
export function errorFrom({ code, message }) {
  return new TidingsError(textOf(code), textOf(message));
}

/**
 * @param {unknown} value
 * @returns {string} `value` if it is a string, otherwise "unknown"
 */
function textOf(value) {
  return typeof value === "string" ? value : "unknown";
}
