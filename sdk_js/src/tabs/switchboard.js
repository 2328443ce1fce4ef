import { COME_BACK } from "../core/codes.js";
import { errorFrom } from "../core/error.js";
import { Positions } from "../core/positions.js";
import { ask, NO_ANSWER } from "../socket.js";
import { refusal, welcome } from "./join.js";
import { Joins } from "./joins.js";
import { Port } from "./port.js";
import { GONE, isAbout } from "./told.js";
import { Turns } from "./turns.js";

/**
 * @typedef {import("../core/codes.js").End} End
 * @typedef {import("../socket.js").Link} Link
 * @typedef {import("../socket.js").LinkListener} LinkListener
 * @typedef {import("./join.js").Wanted} Wanted
 * @typedef {import("./port.js").Both} Both
 * @typedef {import("./told.js").Said} Said
 * @typedef {import("./told.js").Told} Told
 */

// For the tab that connects alone: it has the token.
const OWN = new Set(["tidings:close", "tidings:expiring"]);
/** A hub gives less while one request is answered. */
const HELD_MAX = 10_000;

/**
 * Serves many links, that of its own tab among them, over one connection to the hub, from its opening to its end.
 *
 * Each tab keeps its own cursor. What a tab missed, only the hub can say: it is asked to begin those channels anew
 * where all can go on, and a tab knows by its seq what it had already.
 */
export class Switchboard {
  /** @type {Map<string, Port>} the links that are served, by id */
  #ports = new Map();
  #joins = new Joins();
  /** What the hub gives this connection. */
  #has = new Port();
  #positions = new Positions(undefined);
  /** @type {Said[] | undefined} what came since channels were asked for anew: nobody may know only a part of it */
  #held;
  /** @type {any} what `tidings:ready` said */
  #ready = {};
  /** @type {import("../core/course.js").Transport} */
  #transport = "websocket";
  #over = false;
  /** What the hub is asked alone, so that the order of its answers is known. */
  #turns = new Turns();
  #own;
  #tell;
  #link;

  /**
   * @param {string} own the id of this tab's own link
   * @param {() => object} auth what it says on CONNECT
   * @param {(listener: LinkListener) => Link} open
   * @param {(ids: string[], told: Told) => void} tell
   */
  constructor(own, auth, open, tell) {
    this.#own = own;
    this.#tell = tell;
    this.#link = open({
      auth: () => {
        const { token, ...wanted } = /** @type {Wanted & {token?: string}} */ (auth());
        this.connect(own, wanted);
        return { token, ...this.#joins.take(this.#has, undefined, undefined) };
      },
      event: (event, values) => this.#event({ event, values }),
      transport: (name) => {
        this.#transport = name;
        tell([...new Set(this.#ports.keys()).add(own)], { transport: name });
      },
      lost: (end) => this.#lost(end),
    });
  }

  /**
   * A link wants to be served.
   *
   * @param {string} id
   * @param {Wanted} wanted
   * @returns {boolean} whether it is a new one
   */
  connect(id, wanted) {
    const isNew = !this.#ports.has(id) && !this.#joins.ids.includes(id);
    if (isNew) {
      const join = this.#join(id, wanted, true, (answers, held) => {
        const port = new Port();
        this.#ports.set(id, port);
        port.grant(answers);
        // Of how long the token holds only the tab hears that has it.
        const ready = { ...this.#ready, ...(id !== this.#own && { expires_in_s: undefined }) };
        this.#tell([id], { transport: this.#transport });
        this.#tell([id], { events: welcome(join, { ...ready, ...answers }, this.#positions.cursor, held) });
      });
    }
    return isNew;
  }

  /**
   * A link asks for something.
   *
   * @param {string} id
   * @param {string} event empty: whether this page goes on
   * @param {any} body
   * @param {number} timeoutMs
   * @returns {Promise<any>} the hub's answer; rejects if there is none
   */
  async ask(id, event, body, timeoutMs) {
    const port = this.#ports.get(id);
    if (port === undefined) {
      throw new Error("no connection");
    }
    switch (event) {
      case "":
        return {};
      case "tidings:subscribe":
        return new Promise((resolve) => {
          this.#join(id, body, false, (answers) => {
            port.grant(answers);
            resolve({ cursor: this.#positions.cursor, ...answers });
          });
        });
      case "tidings:unsubscribe":
        port.leave(body);
        this.#tidy();
        return {};
      case "tidings:refresh":
        return this.#turns.next(() => this.#refresh(body, timeoutMs));
      default:
        return this.#link.ask(event, body, timeoutMs);
    }
  }

  /** @returns {Port[]} the connection's own, and those of the links */
  get #all() {
    return [this.#has, ...this.#ports.values()];
  }

  /** @param {string} id of a link that is gone */
  drop(id) {
    this.#ports.delete(id);
    this.#joins.drop(id);
    this.#tidy();
  }

  close() {
    this.#fail(undefined);
  }

  /** @param {Said} said */
  #event(said) {
    const { event, values } = said;
    const [body, , cursor] = values;
    if (event === "tidings:ready") {
      this.#ready = Object(body);
      this.#positions.remember(this.#ready.cursor);
      this.#settle(this.#ready);
      this.#turns.begin();
    } else if (OWN.has(event)) {
      this.#tell([this.#own], { events: [said] });
    } else {
      this.#positions.remember(isAbout(said) ? cursor : body?.cursor);
      if (this.#held === undefined) {
        this.#tell(this.#those((port) => port.gets(said)), { events: [said] });
      } else if (this.#held.push(said) > HELD_MAX) {
        this.#fail(GONE);
      }
      if (event === "tidings:subscribed") {
        // A backend gave them, to everyone who is there: as it is with one connection a tab.
        Object.keys(body.channels).forEach((name) => this.#all.forEach((port) => port.channels.add(name)));
      } else if (event === "tidings:unsubscribed") {
        this.#left(body.channels);
        if (this.#joins.areAsked) {
          // Nobody can say which of the two came first.
          this.#fail(GONE);
        }
      }
    }
  }

  /** @type {Joins["add"]} */
  #join(id, wanted, first, answer) {
    void this.#turns.next(() => this.#subscribe());
    return this.#joins.add(id, wanted, first, answer);
  }

  async #subscribe() {
    const wanted = this.#joins.take(this.#has, this.#positions.cursor, this.#ready.user);
    // Until the answer some publications of these channels are still to come that are older than others.
    this.#held = wanted.since === undefined ? undefined : [];
    const isMore = wanted.channels.length + wanted.presence.length > 0;
    const answer = isMore ? ((await ask(this.#link, "tidings:subscribe", wanted)) ?? NO_ANSWER) : {};
    const error = answer.error && errorFrom(answer.error);
    if (this.#over) {
      return;
    }
    if (error === undefined) {
      this.#settle(answer);
    } else if (wanted.since !== undefined || COME_BACK.has(error.code)) {
      // Nobody knows what it still gives of these channels.
      this.#fail(error);
    } else {
      this.#settle(refusal(wanted, answer));
    }
  }

  /** @param {{channels?: object, presence?: object}} said the hub's answer to what was asked */
  #settle(said) {
    const batch = this.#joins.answered(this.#ready.user);
    /** @type {Both} */
    const answers = { channels: Object(said.channels), presence: Object(said.presence) };
    this.#has.grant(answers);
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const [id, port] of [...this.#ports]) {
      const events = held.filter((each) => port.gets(each));
      const { isRefused, gap } = port.affected(batch.some((join) => join.id === id) ? {} : answers);
      if (gap !== undefined) {
        events.push({ event: "tidings:gap", values: [{ cursor: this.#positions.cursor, ...gap }] });
      }
      if (events.length > 0) {
        this.#tell([id], { events });
      }
      if (isRefused) {
        this.#lose([id]);
      }
    }
    for (const join of batch) {
      const of = (/** @type {import("./join.js").Kind} */ kind) =>
        Object.fromEntries(join[kind].map((name) => [name, answers[kind][name] ?? { recovered: false }]));
      join.answer({ channels: of("channels"), presence: of("presence") }, held);
    }
    this.#tidy();
  }

  /**
   * @param {object} body
   * @param {number} timeoutMs
   */
  async #refresh(body, timeoutMs) {
    const answer = /** @type {any} */ (await this.#link.ask("tidings:refresh", body, timeoutMs));
    if (answer.error === undefined) {
      const { left } = answer;
      // Who had what the new token does not cover is refused when it asks again; who was refused may be granted it.
      const hit = (/** @type {Port} */ port) => port.refused || [...port.channels].some((name) => left.includes(name));
      this.#lose(this.#those((port, id) => id !== this.#own && hit(port)));
      this.#left(left);
    }
    return answer;
  }

  /** @param {string[]} channels what the hub no longer gives */
  #left(channels) {
    this.#all.forEach((port) => port.leave({ channels }));
  }

  /** Leaves what nobody has any more. */
  #tidy() {
    void this.#turns.next(async () => {
      const left = this.#has.without([...this.#ports.values()], `user:${this.#ready.user}`);
      if (left !== undefined) {
        this.#has.leave(left);
        await ask(this.#link, "tidings:unsubscribe", left);
      }
    });
  }

  /**
   * @param {(port: Port, id: string) => boolean} are
   * @returns {string[]} ids of links that are served
   */
  #those(are) {
    return [...this.#ports].filter(([id, port]) => are(port, id)).map(([id]) => id);
  }

  /** @param {string[]} ids links that have to begin anew */
  #lose(ids) {
    this.#tell(ids, { lost: GONE });
    ids.forEach((id) => this.drop(id));
  }

  /** @param {End | undefined} end undefined: the tab itself closed it */
  #fail(end) {
    this.#link.close();
    this.#lost(end);
  }

  /** @param {End | undefined} end */
  #lost(end) {
    if (!this.#over) {
      this.#over = true;
      this.#turns.end();
      const all = new Set([...this.#ports.keys(), ...this.#joins.ids]);
      this.#tell([...all].filter((id) => id !== this.#own), { lost: GONE });
      if (end !== undefined) {
        this.#tell([this.#own], { lost: end });
      }
    }
  }
}
