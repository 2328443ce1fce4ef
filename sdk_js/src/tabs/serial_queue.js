/** Runs asynchronous jobs one after the other, from `start` until `stop`. */
export class SerialQueue {
  #isStopped = false;
  /** Starts the first job. */
  start = () => {};
  /** @type {Promise<any>} */
  #last = new Promise((resolve) => {
    this.start = () => resolve(undefined);
  });

  /** Rejects all jobs that have not started. */
  stop() {
    this.#isStopped = true;
  }

  /**
   * @template T
   * @param {() => Promise<T>} job
   * @returns {Promise<T>} its result; rejects if the queue stops before the job starts
   */
  add(job) {
    const result = this.#last.then(() => (this.#isStopped ? Promise.reject(new Error("no connection")) : job()));
    this.#last = result.catch(() => {
      // The caller of `add` handles this error.
    });
    return result;
  }
}
