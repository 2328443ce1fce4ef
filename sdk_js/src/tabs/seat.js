/**
 * What tabs of one origin share: locks that end with their holder, whatever happened to it, and a way to talk.
 *
 * @typedef {object} Commons
 * @property {Pick<LockManager, "request">} locks
 * @property {(name: string) => Pick<BroadcastChannel, "onmessage" | "postMessage" | "close">} channel
 */

/**
 * What a seat tells its tab.
 *
 * @typedef {object} SeatListener
 * @property {() => void} leads this seat leads from now on
 * @property {(message: any) => void} message what another seat said; `from` is its id
 */

/** A leader that lives answers at once. One that does not hangs, and then a tab helps itself. */
const ANSWER_MS = 3000;

/**
 * A tab's place among those that share a connection, from entering to leaving. There is one leader, since one lock
 * makes it; it is known by its seat's id, so that the word of a former leader is taken for what it is.
 */
export class Seat {
  id = crypto.randomUUID();
  leads = false;
  /** @type {string | undefined} the seat that leads, as far as is known */
  leader;
  #over = new AbortController();
  #alone = false;
  /** @type {Promise<void> | undefined} */
  #asking;
  #known = () => {};
  #commons;
  #name;
  #after;
  #channel;

  /**
   * @param {Commons} commons
   * @param {string} name of those who share
   * @param {import("../timers.js").After} after
   * @param {SeatListener} listener
   */
  constructor(commons, name, after, listener) {
    this.#commons = commons;
    this.#name = name;
    this.#after = after;
    this.#channel = commons.channel(name);
    this.#channel.onmessage = ({ data }) => this.over || listener.message(data);
    const broken = () => {
      // Locks are forbidden here, or the page is going: then it is on its own.
      this.#alone = true;
      this.#known();
    };
    const lead = () => {
      this.leads = true;
      this.say({ lead: true });
      this.led(this.id);
      listener.leads();
    };
    const { signal } = this.#over;
    // Its own lock first: whoever hears of a leader can see at once whether it lives.
    this.hold(this.id, signal, () => this.hold("", signal, lead).catch(broken)).catch(broken);
  }

  /** @returns {boolean} whether it was left */
  get over() {
    return this.#over.signal.aborted;
  }

  /** Gives everything back; another tab leads at once if this one did. */
  leave() {
    this.#over.abort();
    this.#channel.close();
    this.#known();
  }

  /** @param {object} message to all others */
  say(message) {
    if (!this.over) {
      this.#channel.postMessage({ ...message, from: this.id });
    }
  }

  /** @param {string | undefined} leader who leads now; undefined: nobody knows */
  led(leader) {
    this.leader = leader;
    if (leader !== undefined) {
      this.#known();
    }
  }

  /** @returns {Promise<void>} resolves when a leader is known, or when there is none to be had */
  async role() {
    if (this.leader === undefined && !this.#alone && !this.over) {
      this.#asking ??= new Promise((resolve) => {
        const cancel = this.#after(resolve, ANSWER_MS);
        this.#known = () => {
          cancel();
          resolve();
        };
        this.say({ hello: true });
      });
      await this.#asking;
      this.#asking = undefined;
    }
  }

  /**
   * Holds a name until the signal, or the end of the page.
   *
   * @param {string} what
   * @param {AbortSignal} signal
   * @param {() => void} held
   * @returns {Promise<void>} rejects if that cannot be
   */
  hold(what, signal, held) {
    return this.#commons.locks.request(`${this.#name} ${what}`, { signal }, async () => {
      held();
      if (!signal.aborted) {
        await new Promise((resolve) => {
          signal.addEventListener("abort", resolve);
        });
      }
    });
  }

  /**
   * Tells when nobody holds a name any more.
   *
   * @param {string} what
   * @param {AbortSignal | undefined} signal ends it
   * @param {() => void} gone
   */
  watch(what, signal, gone) {
    const over = signal ?? this.#over.signal;
    this.#commons.locks.request(`${this.#name} ${what}`, { signal: over, mode: "shared" }, gone).catch(() => {
      // It was ended, or cannot be: then it tells nothing.
    });
  }
}
