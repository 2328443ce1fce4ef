import { COME_BACK } from "./core/codes.js";
import { Roll } from "./core/roll.js";
import { UNKNOWN } from "./presence.js";

/**
 * @typedef {import("./core/error.js").TidingsError} TidingsError
 * @typedef {import("./core/roll.js").Moves} Moves
 * @typedef {import("./core/subscriptions.js").Subscription} Subscription
 */

const AGAIN_MS = 5000;
const EVENTS = ["tidings:change", "tidings:join", "tidings:leave"];

/** Asks the hub who is in those channels where somebody wants to know. */
export class Attendance {
  /** @type {WeakMap<Subscription, Roll>} of the channels that are watched */
  #rolls = new WeakMap();
  #session;

  /** @param {import("./session.js").Session} session */
  constructor(session) {
    this.#session = session;
    session.listeners.on("transport", (name) => name === undefined && this.#lost());
  }

  /** @returns {string[]} the channels whose list a return may find to be right still: for CONNECT */
  get names() {
    return [...this.#session.subscriptions.all]
      .filter((one) => isWatched(one) && this.#rolls.get(one)?.isKnown)
      .map((one) => one.name);
  }

  /** Begins with what is new, ends what nobody wants to know any more, and asks what has to be asked now. */
  plan() {
    for (const one of this.#session.subscriptions.all) {
      const roll = this.#rolls.get(one);
      if (isWatched(one)) {
        this.#go(one, roll ?? new Roll(UNKNOWN));
      } else if (roll !== undefined) {
        this.#end(one, roll);
      }
    }
  }

  /**
   * What the hub says by itself.
   *
   * @param {string} event
   * @param {unknown[]} values
   */
  hear(event, [data, channel, cursor]) {
    const said = Object(data);
    if (event === "tidings:ready" || event === "tidings:gap") {
      for (const [name, answer] of Object.entries(Object(said.presence))) {
        this.#change(name, (roll) => roll.answered(Object(answer)));
      }
    } else if (event === "tidings:join" || event === "tidings:leave" || event === "tidings:stats") {
      this.#change(String(channel), (roll) => roll.hear(event, said, cursor));
    }
  }

  #lost() {
    for (const one of this.#session.subscriptions.all) {
      this.#rolls.get(one)?.see("subscribing", undefined);
    }
  }

  /**
   * @param {Subscription} one
   * @param {Roll} roll
   */
  #end(one, roll) {
    const { outbox, listeners } = this.#session;
    this.#rolls.delete(one);
    one.present = undefined;
    if (roll.isGranted) {
      outbox
        .request("tidings:unsubscribe", { presence: [one.name] })
        .catch((error) => listeners.emit("error", error));
    }
  }

  /**
   * @param {Subscription} one
   * @param {Roll} roll
   */
  #go(one, roll) {
    const { name } = one;
    this.#rolls.set(one, roll);
    roll.see(one.joined ? "subscribed" : one.state, one.error);
    tell(one, roll);
    const next = roll.next();
    if (next === "watch") {
      this.#ask(name, roll, "tidings:subscribe", { presence: [name] }, ({ presence }) =>
        roll.answered(Object(Object(presence)[name])),
      );
    } else if (next === "load") {
      this.#ask(name, roll, "tidings:presence", { channel: name }, (answer) => roll.loaded(answer));
    }
  }

  /**
   * @param {string} name
   * @param {Roll} roll
   * @param {string} event
   * @param {object} body
   * @param {(answer: any) => Moves | void} take
   */
  #ask(name, { turn }, event, body, take) {
    const { outbox, world } = this.#session;
    // What was asked on an earlier connection, or before a gap, is asked again by then.
    const change = (/** @type {(roll: Roll) => Moves | void} */ act) =>
      this.#change(name, (roll) => (roll.turn === turn ? act(roll) : undefined));
    const fail = (/** @type {TidingsError} */ error) => {
      if (COME_BACK.has(error.code) || error.code === "queue_full") {
        change((roll) => roll.failed(error));
        world.after(() => change((roll) => roll.again()), AGAIN_MS * world.random());
      } else {
        change((roll) => roll.answered({ error }));
      }
    };
    void outbox.request(event, body).then((answer) => change(() => take(answer)), fail);
  }

  /**
   * Tells what follows from this, and asks what has to be asked then.
   *
   * @param {string} name
   * @param {(roll: Roll) => Moves | void} act
   */
  #change(name, act) {
    const one = this.#session.subscriptions.get(name);
    const roll = one && this.#rolls.get(one);
    if (one !== undefined && roll !== undefined) {
      tell(one, roll, act(roll));
      this.#session.changed();
    }
  }
}

/**
 * @param {Subscription} one
 * @returns {boolean}
 */
function isWatched({ listeners }) {
  return EVENTS.some((event) => listeners.has(event));
}

/**
 * @param {Subscription} one
 * @param {Roll} roll
 * @param {Moves | void} moves
 */
function tell(one, { snapshot }, moves) {
  if ((one.present ?? UNKNOWN) !== snapshot) {
    one.present = snapshot;
    one.listeners.emit("tidings:change", snapshot);
  }
  moves?.joined.forEach((member) => one.listeners.emit("tidings:join", member));
  moves?.left.forEach((member) => one.listeners.emit("tidings:leave", member));
}
