/**
 * What went wrong, by a code that programs compare: one of PROTOCOL.md section 4, or one of the SDK's own:
 * `closed` (the application closed the connection), `queue_full` (too many requests wait for an answer),
 * `no_token` (getToken failed), `not_loaded` (a part of the SDK did not come; it is tried again).
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
 * The error that the hub said: `{"code", "message"}`. Whatever else it is, it is an error, too.
 *
 * @param {{code?: unknown, message?: unknown}} said
 * @returns {TidingsError}
 */
export function errorFrom({ code, message }) {
  return new TidingsError(text(code), text(message));
}

/**
 * @param {unknown} said
 * @returns {string} what was said, if it is a text
 */
export function text(said) {
  return typeof said === "string" ? said : "unknown";
}
