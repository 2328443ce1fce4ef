/**
 * The browser APIs that tabs of one origin share: locks, which the browser releases when their tab ends for any reason,
 * and broadcast channels.
 *
 * @typedef {object} TabChannelApi
 * @property {Pick<LockManager, "request">} locks
 * @property {(name: string) => Pick<BroadcastChannel, "onmessage" | "postMessage" | "close">} channel
 */

/**
 * @typedef {object} ElectionListener
 * @property {() => void} onElected this tab is the leader from now on
 * @property {(message: any) => void} onMessage a message of another tab; `from` is its id
 */

/** A leader responds immediately. If it does not within this time, it hangs, and this tab connects by itself. */
const LEADER_RESPONSE_MS = 3000;
/** The lock that the leader holds. Each tab also holds the lock with its own id, so that others notice its end. */
const LEADER_LOCK = "";

/**
 * One tab's part in the election of the leader, from joining to leaving. A Web Lock ensures that there is one leader.
 * Messages carry the id of their sender, so messages of a former leader are recognized and ignored.
 */
export class LeaderElection {
  id = crypto.randomUUID();
  isLeader = false;
  /** @type {string | undefined} the leader's id, if known */
  leaderId;
  #left = new AbortController();
  #hasNoLocks = false;
  /** @type {Promise<void> | undefined} */
  #waiting;
  #stopWaiting = () => {};
  #api;
  #name;
  #setTimer;
  #channel;

  /**
   * @param {TabChannelApi} api
   * @param {string} name identifies the group of tabs
   * @param {import("../timers.js").SetTimer} setTimer
   * @param {ElectionListener} listener
   */
  constructor(api, name, setTimer, listener) {
    this.#api = api;
    this.#name = name;
    this.#setTimer = setTimer;
    this.#channel = api.channel(name);
    this.#channel.onmessage = ({ data }) => this.hasLeft || listener.onMessage(data);
    const onNoLocks = () => {
      // The browser forbids locks here, or the page is closing: this tab connects by itself.
      this.#hasNoLocks = true;
      this.#stopWaiting();
    };
    const onElected = () => {
      this.isLeader = true;
      this.broadcast({ lead: true });
      this.setLeader(this.id);
      listener.onElected();
    };
    const { signal } = this.#left;
    // The tab's own lock comes first: a tab that learns of a leader can watch the leader's lock at once.
    this.holdLock(this.id, signal, () => {
      return this.holdLock(LEADER_LOCK, signal, onElected).catch(onNoLocks);
    }).catch(onNoLocks);
  }

  /** @returns {boolean} whether `leave` was called */
  get hasLeft() {
    return this.#left.signal.aborted;
  }

  /** Releases all locks. If this tab was the leader, another tab becomes the leader at once. */
  leave() {
    this.#left.abort();
    this.#channel.close();
    this.#stopWaiting();
  }

  /** @param {object} message for all other tabs */
  broadcast(message) {
    if (!this.hasLeft) {
      this.#channel.postMessage({ ...message, from: this.id });
    }
  }

  /** @param {string | undefined} leaderId undefined: not known */
  setLeader(leaderId) {
    this.leaderId = leaderId;
    if (leaderId !== undefined) {
      this.#stopWaiting();
    }
  }

  /** @returns {Promise<void>} resolves when a leader is known, or if none responds */
  async waitForLeader() {
    if (this.leaderId === undefined && !this.#hasNoLocks && !this.hasLeft) {
      this.#waiting ??= new Promise((resolve) => {
        const cancel = this.#setTimer(resolve, LEADER_RESPONSE_MS);
        this.#stopWaiting = () => {
          cancel();
          resolve();
        };
        this.broadcast({ hello: true });
      });
      await this.#waiting;
      this.#waiting = undefined;
    }
  }

  /**
   * Holds a lock until the signal or the end of the page.
   *
   * @param {string} lock
   * @param {AbortSignal} signal
   * @param {() => void} onHeld
   * @returns {Promise<void>} rejects if the lock cannot be requested
   */
  holdLock(lock, signal, onHeld) {
    return this.#api.locks.request(`${this.#name} ${lock}`, { signal }, async () => {
      onHeld();
      if (!signal.aborted) {
        await new Promise((resolve) => {
          signal.addEventListener("abort", resolve);
        });
      }
    });
  }

  /**
   * Calls `onReleased` when no tab holds the lock any more.
   *
   * @param {string} lock
   * @param {AbortSignal | undefined} signal ends it; the default is the end of the election
   * @param {() => void} onReleased
   */
  watchLock(lock, signal, onReleased) {
    const options = /** @type {const} */ ({ signal: signal ?? this.#left.signal, mode: "shared" });
    this.#api.locks.request(`${this.#name} ${lock}`, options, onReleased).catch(() => {
      // Aborted, or locks are not available: `onReleased` is not called.
    });
  }
}
