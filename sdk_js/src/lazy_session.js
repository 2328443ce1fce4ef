import { Session } from "./session.js";

/**
 * A session without a page. Its module may be loaded only to render pages on a server, so the first listener or request
 * connects. Until then it is `connecting`, as in a browser, and keeps no process alive.
 */
export class LazySession extends Session {
  #isUnused = true;

  /**
   * @param {import("./environment.js").Environment} environment
   * @param {import("./options.js").Options} options
   */
  constructor(environment, options) {
    super(environment, options);
    this.reconnect.start();
    const request = this.outbox.request.bind(this.outbox);
    this.outbox.request = (event, body) => {
      this.#use();
      return request(event, body);
    };
  }

  /**
   * Connects.
   *
   * @override
   */
  start() {
    if (this.#isUnused) {
      this.#isUnused = false;
      this.reconnect.apply("stop");
    }
    super.start();
  }

  /** @override */
  stop() {
    this.#isUnused = false;
    super.stop();
  }

  /** @override */
  subscribeSoon() {
    // Svelte renders a list on a server by subscribing for a moment: that is no use.
    if (this.#isUnused) {
      const { setTimer } = this.environment;
      const useIfListening = () => this.channels.all.some(({ listeners }) => listeners.size) && this.#use();
      setTimer(() => setTimer(useIfListening, 0), 0);
    }
    super.subscribeSoon();
  }

  #use() {
    if (this.#isUnused) {
      this.start();
    }
  }
}
