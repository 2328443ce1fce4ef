import { dispatch } from "./messages.js";

/**
 * @typedef {import("./election.js").LeaderElection} LeaderElection
 * @typedef {import("../socket.js").LinkListener} LinkListener
 */

/** How often to check that the leader responds: its page can hang although it still holds its lock. */
const CHECK_MS = 20_000;
const LEADER_RESPONSE_MS = 10_000;

/** A link to the hub through the leader's tab. Each side detects the end of the other by its lock. */
export class Follower {
  id = crypto.randomUUID();
  /** @type {Map<number, (response: unknown) => void>} callbacks of requests without a response, by number */
  #pending = new Map();
  #lastNumber = 0;
  #hasLock = false;
  #isReady = false;
  #closed = new AbortController();
  #cancelCheck = () => {};
  #election;
  #setTimer;
  #listener;

  /**
   * @param {LeaderElection} election
   * @param {string} leaderId
   * @param {import("../timers.js").SetTimer} setTimer
   * @param {LinkListener} listener its `onLost` closes this link
   */
  constructor(election, leaderId, setTimer, listener) {
    this.leaderId = leaderId;
    this.#election = election;
    this.#setTimer = setTimer;
    this.#listener = listener;
    const { signal } = this.#closed;
    const onLost = () => listener.onLost({ code: "unavailable" });
    const onHeld = () => {
      this.#hasLock = true;
      this.connect();
    };
    election.watchLock(leaderId, signal, onLost);
    election.holdLock(this.id, signal, onHeld).catch(onLost);
    this.#check();
  }

  /** Asks the leader to serve this link. Called again if the leader was not connected yet. */
  connect() {
    // The leader drops a link whose lock is free, so the lock comes first.
    if (this.#hasLock && !this.#isReady) {
      this.#send({ connect: { ...this.#listener.auth(), token: undefined } });
    }
  }

  /** @param {any} message from the leader to this link */
  onMessage(message) {
    if (message.answer === undefined) {
      this.#isReady ||= message.events !== undefined;
      dispatch(message, this.#listener);
    } else {
      this.#pending.get(message.answer)?.(message.said);
    }
  }

  /**
   * @param {string} event
   * @param {object} body
   * @param {number} timeoutMs
   * @returns {Promise<unknown>} the hub's response; rejects if there is none
   */
  request(event, body, timeoutMs) {
    return new Promise((resolve, reject) => {
      this.#lastNumber += 1;
      const number = this.#lastNumber;
      const fail = () => {
        this.#pending.delete(number);
        reject(new Error("no answer"));
      };
      const cancel = this.#setTimer(fail, timeoutMs);
      this.#pending.set(number, (response) => {
        cancel();
        if (response === undefined) {
          fail();
        } else {
          this.#pending.delete(number);
          resolve(response);
        }
      });
      // As JSON, as the hub would receive it: a structured clone would ignore `toJSON`.
      this.#send({ ask: number, event, body: JSON.stringify(body), timeoutMs });
    });
  }

  close() {
    this.#closed.abort();
    this.#cancelCheck();
    for (const respond of [...this.#pending.values()]) {
      respond(undefined);
    }
  }

  #check() {
    this.#cancelCheck = this.#setTimer(() => {
      const onNoResponse = () => this.#listener.onLost({ code: "ping_timeout" });
      this.request("", {}, LEADER_RESPONSE_MS).then(() => this.#closed.signal.aborted || this.#check(), onNoResponse);
    }, CHECK_MS);
  }

  /** @param {object} message */
  #send(message) {
    this.#election.broadcast({ ...message, to: this.leaderId, link: this.id });
  }
}
