/** @typedef {(...values: any[]) => void} Listener */

/** Who wants to be told of what. The same function may listen twice. */
export class Listeners {
  /** @type {Set<{event: string, tell: Listener}>} */
  #entries = new Set();

  /** @returns {number} how many listen to anything */
  get size() {
    return this.#entries.size;
  }

  /**
   * @param {string} event
   * @returns {boolean} whether somebody listens to it
   */
  has(event) {
    return [...this.#entries].some((entry) => entry.event === event);
  }

  /**
   * @param {string} event
   * @param {Listener} tell
   * @returns {() => void} ends it; calling it again does nothing
   */
  on(event, tell) {
    const entry = { event, tell };
    this.#entries.add(entry);
    return () => {
      this.#entries.delete(entry);
    };
  }

  /**
   * Tells everyone. Who throws does not keep the others from being told.
   *
   * @param {string} event
   * @param {unknown[]} values
   */
  emit(event, ...values) {
    for (const { tell } of [...this.#entries].filter((entry) => entry.event === event)) {
      try {
        tell(...values);
      } catch (error) {
        // Its mistake is shown where the platform shows uncaught errors.
        setTimeout(() => {
          throw error;
        });
      }
    }
  }
}
