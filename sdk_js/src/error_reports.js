/**
 * @typedef {import("./core/error.js").TidingsError} TidingsError
 * @typedef {import("./core/listeners.js").Listeners} Listeners
 */

/** How many different lines one hub object writes to the console. */
const LINES_MAX = 100;

/** Errors that are not the result of a call. Each one reaches the `error` listeners, and the console once. */
export class ErrorReports {
  /** @type {Set<string>} */
  #lines = new Set();
  #listeners;
  /** The last failure since the last connection. */
  #lastFailure = "";

  /** @param {Listeners} listeners */
  constructor(listeners) {
    this.#listeners = listeners;
  }

  /** @param {TidingsError} error */
  report = (error) => {
    const { channel, code, message, cause } = error;
    const line = `tidings: ${channel ?? "connection"}: ${message} (${code})`;
    if (!this.#lines.has(line) && this.#lines.size < LINES_MAX) {
      this.#lines.add(line);
      console.warn(line, cause ?? "");
    }
    this.#listeners.emit("error", error);
  };

  /**
   * Reports why an attempt failed, or why the connection ended: once until something else is the reason.
   *
   * @param {TidingsError | undefined} error
   */
  reportFailure(error) {
    if (error && error.message !== this.#lastFailure) {
      this.#lastFailure = error.message;
      this.report(error);
    }
  }

  /** A later failure is a new one. */
  onConnected() {
    this.#lastFailure = "";
  }
}
