/** @typedef {(tell: () => void, inMs: number) => () => void} After returns what cancels it */

/** Running timers, at most one for each purpose. */
export class Timers {
  /** @type {Map<string, () => void>} */
  #running = new Map();
  #after;

  /** @param {After} after */
  constructor(after) {
    this.#after = after;
  }

  /**
   * Takes the place of a running one.
   *
   * @param {string} what
   * @param {number} inMs
   * @param {() => unknown} tell
   */
  set(what, inMs, tell) {
    this.cancel(what);
    const cancel = this.#after(() => {
      this.#running.delete(what);
      tell();
    }, inMs);
    this.#running.set(what, cancel);
  }

  /** @param {string} what */
  has(what) {
    return this.#running.has(what);
  }

  /** @param {string} what */
  cancel(what) {
    this.#running.get(what)?.();
    this.#running.delete(what);
  }

  /** Cancels all. */
  clear() {
    for (const what of this.#running.keys()) {
      this.cancel(what);
    }
  }
}
