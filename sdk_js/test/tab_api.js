// The browser APIs that tabs of one origin share, in memory: Web Locks and BroadcastChannel, on a clock that tests
// advance.
import { setMaxListeners } from "node:events";

/** All tabs of one origin. Each operation takes between 0 and `delayMs`, in order where browsers keep the order. */
export class TestOrigin {
  /** @type {Map<string, LockRequest[]>} by name, in order; the first ones hold the lock */
  #requests = new Map();
  /** @type {Set<TestChannel>} */
  channels = new Set();

  /**
   * @param {import("./session_harness.js").TestClock} clock
   * @param {() => number} delayMs
   */
  constructor(clock, delayMs = () => 0) {
    this.clock = clock;
    this.delayMs = delayMs;
  }

  /** @param {LockRequest} request */
  addRequest(request) {
    this.#requests.set(request.name, [...(this.#requests.get(request.name) ?? []), request]);
    this.#grant(request.name);
  }

  /** @param {LockRequest} request */
  removeRequest(request) {
    const others = (this.#requests.get(request.name) ?? []).filter((other) => other !== request);
    this.#requests.set(request.name, others);
    this.#grant(request.name);
  }

  /** @param {string} name */
  #grant(name) {
    const queue = this.#requests.get(name) ?? [];
    for (const [index, request] of queue.entries()) {
      const isFree = index === 0 || queue.slice(0, index + 1).every(({ isShared }) => isShared);
      if (isFree && !request.isGranted) {
        request.isGranted = true;
        this.clock.setTimer(request.grant, this.delayMs());
      }
    }
  }
}

/** @typedef {{name: string, isShared: boolean, isGranted: boolean, grant: () => void}} LockRequest */

/** A BroadcastChannel: each receiver gets the messages of each sender in that sender's order. */
class TestChannel {
  /** @type {((event: any) => void) | null} */
  onmessage = null;
  /** @type {Map<TestChannel, number>} when the last message of each sender arrives */
  #lastMs = new Map();
  #origin;
  #api;
  #name;

  /**
   * @param {TestOrigin} origin
   * @param {TestTabApi} api
   * @param {string} name
   */
  constructor(origin, api, name) {
    this.#origin = origin;
    this.#api = api;
    this.#name = name;
    origin.channels.add(this);
  }

  /** @param {unknown} message */
  postMessage(message) {
    for (const other of this.#api.isAlive ? this.#origin.channels : []) {
      if (other !== this && other.#name === this.#name) {
        other.#deliver(this, structuredClone(message));
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
  #deliver(sender, data) {
    const { clock } = this.#origin;
    const atMs = Math.max(clock.nowMs + this.#origin.delayMs(), this.#lastMs.get(sender) ?? 0);
    this.#lastMs.set(sender, atMs);
    clock.setTimer(() => {
      if (this.#api.isAlive && !this.#api.hangs && this.#origin.channels.has(this)) {
        this.onmessage?.({ data });
      }
    }, atMs - clock.nowMs);
  }
}

/** The APIs in one tab. All locks and channels of the tab end with `kill`. */
export class TestTabApi {
  isAlive = true;
  /** Whether the page hangs: it receives nothing, but keeps its locks. */
  hangs = false;
  /** @type {Set<LockRequest>} */
  #ownRequests = new Set();
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
        /** @type {LockRequest} */
        const request = { name, isShared: mode === "shared", isGranted: false, grant: () => {} };
        const release = () => {
          this.#ownRequests.delete(request);
          this.#origin.removeRequest(request);
        };
        const abort = () => {
          if (this.#ownRequests.has(request)) {
            release();
            reject(signal?.reason);
          }
        };
        request.grant = async () => {
          if (this.#ownRequests.has(request)) {
            signal?.removeEventListener("abort", abort);
            await Promise.resolve(callback()).then(resolve, reject);
            release();
          }
        };
        if (signal !== undefined) {
          // Node warns about more than ten listeners of one signal.
          setMaxListeners(0, signal);
          signal.addEventListener("abort", abort);
        }
        if (this.isAlive) {
          this.#ownRequests.add(request);
          this.#origin.addRequest(request);
        }
      }),
  };

  /** @param {string} name */
  channel = (name) => new TestChannel(this.#origin, this, name);

  /** The tab ends without a message. */
  kill() {
    this.isAlive = false;
    for (const request of [...this.#ownRequests]) {
      this.#ownRequests.delete(request);
      this.#origin.removeRequest(request);
    }
  }
}
