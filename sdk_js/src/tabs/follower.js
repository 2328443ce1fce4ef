import { pass } from "./told.js";

/**
 * @typedef {import("./seat.js").Seat} Seat
 * @typedef {import("../socket.js").LinkListener} LinkListener
 */

/** Whether the leader, which is there, also goes on: a page can hang. */
const CHECK_MS = 20_000;
const ANSWER_MS = 10_000;

/** A link to the hub by way of the leader's tab. The leader sees its end by its lock, and it sees the leader's. */
export class Follower {
  id = crypto.randomUUID();
  /** @type {Map<number, (said: unknown) => void>} what waits for an answer */
  #asked = new Map();
  #count = 0;
  #held = false;
  #ready = false;
  #over = new AbortController();
  #uncheck = () => {};
  #seat;
  #after;
  #listener;

  /**
   * @param {Seat} seat
   * @param {string} leader
   * @param {import("../timers.js").After} after
   * @param {LinkListener} listener whose `lost` closes this
   */
  constructor(seat, leader, after, listener) {
    this.leader = leader;
    this.#seat = seat;
    this.#after = after;
    this.#listener = listener;
    const { signal } = this.#over;
    const lost = () => listener.lost({ code: "unavailable" });
    seat.watch(leader, signal, lost);
    const held = () => {
      this.#held = true;
      this.connect();
    };
    seat.hold(this.id, signal, held).catch(lost);
    this.#check();
  }

  /** Asks to be let in. Again, if the leader was not connecting yet. */
  connect() {
    // What nobody holds is gone, in the leader's eyes.
    if (this.#held && !this.#ready) {
      this.#say({ connect: { ...this.#listener.auth(), token: undefined } });
    }
  }

  /** @param {any} message the leader's, to this link */
  hear(message) {
    if (message.answer === undefined) {
      this.#ready ||= message.events !== undefined;
      pass(message, this.#listener);
    } else {
      this.#asked.get(message.answer)?.(message.said);
    }
  }

  /**
   * @param {string} event
   * @param {object} body
   * @param {number} timeoutMs
   * @returns {Promise<unknown>}
   */
  ask(event, body, timeoutMs) {
    return new Promise((resolve, reject) => {
      this.#count += 1;
      const number = this.#count;
      const none = () => {
        this.#asked.delete(number);
        reject(new Error("no answer"));
      };
      const cancel = this.#after(none, timeoutMs);
      this.#asked.set(number, (said) => {
        cancel();
        if (said === undefined) {
          none();
        } else {
          this.#asked.delete(number);
          resolve(said);
        }
      });
      // As JSON, which is what the hub would get: a page's objects may say by toJSON what they are.
      this.#say({ ask: number, event, body: JSON.stringify(body), timeoutMs });
    });
  }

  close() {
    this.#over.abort();
    this.#uncheck();
    for (const answer of [...this.#asked.values()]) {
      answer(undefined);
    }
  }

  #check() {
    this.#uncheck = this.#after(() => {
      const hangs = () => this.#listener.lost({ code: "ping_timeout" });
      this.ask("", {}, ANSWER_MS).then(() => this.#over.signal.aborted || this.#check(), hangs);
    }, CHECK_MS);
  }

  /** @param {object} message */
  #say(message) {
    this.#seat.say({ ...message, to: this.leader, link: this.id });
  }
}
