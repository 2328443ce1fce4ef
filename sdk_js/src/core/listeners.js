/** @typedef {(...values: any[]) => void} Listener */

/** Who wants to be told of what. The same function may listen twice. */
export class Listeners {
  /** @type {Map<string, Set<{tell: Listener}>>} */
  #byEvent = new Map();

  /** @returns {number} how many listen to anything */
  get size() {
    let size = 0;
    for (const entries of this.#byEvent.values()) {
      size += entries.size;
    }
    return size;
  }

  /**
   * @param {string} event
   * @param {Listener} tell
   * @returns {() => void} ends it; calling it again does nothing
   */
  on(event, tell) {
    const entry = { tell };
    const entries = this.#byEvent.get(event) ?? new Set();
    this.#byEvent.set(event, entries.add(entry));
    return () => {
      entries.delete(entry);
      if (entries.size === 0 && this.#byEvent.get(event) === entries) {
        this.#byEvent.delete(event);
      }
    };
  }

  /**
   * Tells everyone. Who throws does not keep the others from being told.
   *
   * @param {string} event
   * @param {unknown[]} values
   */
  emit(event, ...values) {
    for (const { tell } of [...(this.#byEvent.get(event) ?? [])]) {
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
