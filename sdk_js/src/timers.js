/** @typedef {(callback: () => void, delayMs: number) => () => void} SetTimer returns a function that cancels it */

/** Running timers by name, at most one per name. */
export class Timers {
  /** @type {Map<string, () => void>} */
  #cancels = new Map();
  #setTimer;

  /** @param {SetTimer} setTimer */
  constructor(setTimer) {
    this.#setTimer = setTimer;
  }

  /**
   * Starts a timer, and cancels a running one of the same name.
   *
   * @param {string} name
   * @param {number} delayMs
   * @param {() => unknown} callback
   */
  set(name, delayMs, callback) {
    this.cancel(name);
    const cancel = this.#setTimer(() => {
      this.#cancels.delete(name);
      callback();
    }, delayMs);
    this.#cancels.set(name, cancel);
  }

  /**
   * Starts a timer unless one of the same name is running.
   *
   * @param {string} name
   * @param {number} delayMs
   * @param {() => unknown} callback
   */
  setOnce(name, delayMs, callback) {
    if (!this.has(name)) {
      this.set(name, delayMs, callback);
    }
  }

  /** @param {string} name */
  has(name) {
    return this.#cancels.has(name);
  }

  /** @param {string} name */
  cancel(name) {
    this.#cancels.get(name)?.();
    this.#cancels.delete(name);
  }

  /** Cancels all timers. */
  clear() {
    for (const name of this.#cancels.keys()) {
      this.cancel(name);
    }
  }
}
