/** @typedef {(...values: any[]) => void} Listener */

/** Event listeners by event name. The same function can be added twice. */
export class Listeners {
  /** @type {Set<{event: string, listener: Listener}>} */
  #entries = new Set();

  /** @returns {number} the number of listeners, for all events */
  get size() {
    return this.#entries.size;
  }

  /**
   * @param {string} event
   * @returns {boolean} whether the event has a listener
   */
  has(event) {
    return [...this.#entries].some((entry) => entry.event === event);
  }

  /**
   * @param {string} event
   * @param {Listener} listener
   * @returns {() => void} removes the listener; further calls do nothing
   */
  on(event, listener) {
    const entry = { event, listener };
    this.#entries.add(entry);
    return () => {
      this.#entries.delete(entry);
    };
  }

  /**
   * Calls every listener of the event. A listener that throws does not stop the others.
   *
   * @param {string} event
   * @param {unknown[]} values
   */
  emit(event, ...values) {
    for (const { listener } of [...this.#entries].filter((entry) => entry.event === event)) {
      try {
        listener(...values);
      } catch (error) {
        // Rethrown outside of this loop, so the platform reports it as an uncaught error.
        setTimeout(() => {
          throw error;
        });
      }
    }
  }
}
