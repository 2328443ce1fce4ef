/** What is done one after the other, from the beginning to the end. */
export class Turns {
  #over = false;
  /** Lets the first begin. */
  begin = () => {};
  /** @type {Promise<any>} */
  #last = new Promise((resolve) => {
    this.begin = () => resolve(undefined);
  });

  /** Nothing more begins. */
  end() {
    this.#over = true;
  }

  /**
   * @template T
   * @param {() => Promise<T>} job
   * @returns {Promise<T>} its result; rejects if the end was before
   */
  next(job) {
    const done = this.#last.then(() => (this.#over ? Promise.reject(new Error("no connection")) : job()));
    this.#last = done.catch(() => {
      // Whoever asked for it is told.
    });
    return done;
  }
}
