// Relative times change once a minute at most; this is how late one may be.
const PERIOD_MS = 15_000;

/** Calls a function every few seconds while it is started and the page can be seen, and at once when it returns. */
export class RepeatingTimer {
  #callback;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #interval;
  #isStarted = false;

  /** @param {() => void} callback */
  constructor(callback) {
    this.#callback = callback;
  }

  start() {
    this.#isStarted = true;
    document.addEventListener("visibilitychange", this.#update);
    this.#update();
  }

  stop() {
    this.#isStarted = false;
    document.removeEventListener("visibilitychange", this.#update);
    this.#update();
  }

  #update = () => {
    clearInterval(this.#interval);
    this.#interval = undefined;
    if (this.#isStarted && document.visibilityState !== "hidden") {
      this.#callback();
      this.#interval = setInterval(this.#callback, PERIOD_MS);
    }
  };
}
