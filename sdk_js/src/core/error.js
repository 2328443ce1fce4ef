/**
 * An error with a code for programs to compare. The code is one of PROTOCOL.md section 4, or one of the SDK's own:
 * `closed` (the application closed the connection), `unreachable` (no connection to the hub), `blocked` (the page's
 * Content-Security-Policy forbids it), `no_token` (getToken failed), `load_failed` (a list's `load` failed),
 * `queue_full` (too many requests are waiting), `bad_option` (an option of `connect` cannot work), `not_loaded` (a part
 * of the SDK could not be loaded; the SDK retries), `unsupported` (this browser or page lacks what was called).
 */
export class TidingsError extends Error {
  /**
   * @param {string} code
   * @param {string} message what to do next
   * @param {ErrorOptions & {channel?: string | undefined}} [options] `channel`: the channel that it is about
   */
  constructor(code, message, options) {
    super(message, options);
    this.name = "TidingsError";
    /** @readonly */
    this.code = code;
    /** @readonly */
    this.channel = options?.channel;
  }
}

/**
 * The error in a hub's response: `{"code", "message"}`. A malformed one becomes an error with the code `unknown`.
 *
 * @param {{code?: unknown, message?: unknown}} error
 * @param {string} [channel]
 * @returns {TidingsError}
 */
export function errorFrom({ code, message }, channel) {
  return new TidingsError(textOf(code), textOf(message), { channel });
}

/**
 * @param {unknown} cause what was thrown: an error, a Response, or anything else
 * @returns {string} never a failure of its own, as that of a Symbol in a template would be
 */
export function messageOf(cause) {
  const { message, status } = Object(cause);
  return String(message ?? status ?? (typeof cause === "object" ? "no text" : cause));
}

/**
 * @param {unknown} value
 * @returns {string} `value` if it is a string, otherwise "unknown"
 */
function textOf(value) {
  return typeof value === "string" ? value : "unknown";
}
