// What tabs of one origin share, in memory: locks and channels as browsers have them, on a clock that tests move.
import { setMaxListeners } from "node:events";

/** All tabs of one origin. Whatever takes time takes between 0 and `delayMs`, in order where browsers keep it. */
export class TestOrigin {
  /** @type {Map<string, Request[]>} by name; those at the front, up to the first that has to wait, hold it */
  #requests = new Map();
  /** @type {Set<TestChannel>} */
  channels = new Set();

  /**
   * @param {import("./pair.js").TestClock} clock
   * @param {() => number} delayMs
   */
  constructor(clock, delayMs = () => 0) {
    this.clock = clock;
    this.delayMs = delayMs;
  }

  /** @param {Request} request */
  enter(request) {
    this.#requests.set(request.name, [...(this.#requests.get(request.name) ?? []), request]);
    this.#grant(request.name);
  }

  /** @param {Request} request */
  leave(request) {
    this.#requests.set(request.name, (this.#requests.get(request.name) ?? []).filter((each) => each !== request));
    this.#grant(request.name);
  }

  /** @param {string} name */
  #grant(name) {
    const queue = this.#requests.get(name) ?? [];
    for (const [index, request] of queue.entries()) {
      const isFree = index === 0 || queue.slice(0, index + 1).every((each) => each.isShared);
      if (isFree && !request.isGranted) {
        request.isGranted = true;
        this.clock.after(request.grant, this.delayMs());
      }
    }
  }
}

/** @typedef {{name: string, isShared: boolean, isGranted: boolean, grant: () => void}} Request */

/** A BroadcastChannel: each receiver gets what each sender said in that sender's order. */
class TestChannel {
  /** @type {((event: any) => void) | null} */
  onmessage = null;
  /** @type {Map<TestChannel, number>} when the last message of each sender arrives */
  #lastMs = new Map();
  #origin;
  #commons;
  #name;

  /**
   * @param {TestOrigin} origin
   * @param {TestCommons} commons
   * @param {string} name
   */
  constructor(origin, commons, name) {
    this.#origin = origin;
    this.#commons = commons;
    this.#name = name;
    origin.channels.add(this);
  }

  /** @param {unknown} said */
  postMessage(said) {
    for (const other of this.#commons.isAlive ? this.#origin.channels : []) {
      if (other !== this && other.#name === this.#name) {
        other.#hear(this, structuredClone(said));
      }
    }
  }

  close() {
    this.#origin.channels.delete(this);
  }

  /**
   * @param {TestChannel} sender
   * @param {unknown} data
   */
  #hear(sender, data) {
    const { clock } = this.#origin;
    const atMs = Math.max(clock.nowMs + this.#origin.delayMs(), this.#lastMs.get(sender) ?? 0);
    this.#lastMs.set(sender, atMs);
    clock.after(() => {
      if (this.#commons.isAlive && !this.#commons.hangs && this.#origin.channels.has(this)) {
        this.onmessage?.({ data });
      }
    }, atMs - clock.nowMs);
  }
}

/** One tab of an origin: what ends with it when it is killed. */
export class TestCommons {
  isAlive = true;
  /** Its page does not go on, and is not gone. */
  hangs = false;
  /** @type {Set<Request>} */
  #mine = new Set();
  #origin;

  /** @param {TestOrigin} origin */
  constructor(origin) {
    this.#origin = origin;
  }

  locks = {
    /**
     * @param {string} name
     * @param {{signal?: AbortSignal, mode?: string}} options
     * @param {() => unknown} callback
     * @returns {Promise<unknown>}
     */
    request: (name, { signal, mode }, callback) =>
      new Promise((resolve, reject) => {
        signal?.throwIfAborted();
        /** @type {Request} */
        const request = { name, isShared: mode === "shared", isGranted: false, grant: () => {} };
        const release = () => {
          this.#mine.delete(request);
          this.#origin.leave(request);
        };
        const abort = () => {
          if (this.#mine.has(request)) {
            release();
            reject(signal?.reason);
          }
        };
        request.grant = async () => {
          if (this.#mine.has(request)) {
            signal?.removeEventListener("abort", abort);
            await Promise.resolve(callback()).then(resolve, reject);
            release();
          }
        };
        if (signal !== undefined) {
          // Node warns of more than ten who wait for one signal.
          setMaxListeners(0, signal);
          signal.addEventListener("abort", abort);
        }
        if (this.isAlive) {
          this.#mine.add(request);
          this.#origin.enter(request);
        }
      }),
  };

  /** @param {string} name */
  channel = (name) => new TestChannel(this.#origin, this, name);

  /** The tab is gone, without a word. */
  kill() {
    this.isAlive = false;
    for (const request of [...this.#mine]) {
      this.#mine.delete(request);
      this.#origin.leave(request);
    }
  }
}
