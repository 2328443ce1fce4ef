import { Follower } from "./follower.js";
import { Seat } from "./seat.js";
import { Switchboard } from "./switchboard.js";
import { GONE, pass } from "./told.js";

/**
 * @typedef {import("../core/codes.js").End} End
 * @typedef {import("../core/course.js").Transport} Transport
 * @typedef {import("../socket.js").Link} Link
 * @typedef {import("../socket.js").LinkListener} LinkListener
 * @typedef {import("../world.js").World} World
 * @typedef {Omit<World, "open"> & {open: (transports: Transport[], listener: LinkListener) => Link}} DirectWorld
 * @typedef {import("../tokens.js").GetToken} GetToken
 */

/** In the place of a token: the leader's is the one that the hub sees. */
const NONE = "-";

/**
 * One tab among those that share a connection: the leader has it, the others follow. What a session asks of the world
 * in the way of connections, for one session.
 */
export class Tab {
  #wake = () => {};
  /** @type {(end: End) => void} ends the session's present link */
  #lose = () => {};
  /** @type {Seat | undefined} */
  #seat;
  /** @type {Switchboard | undefined} */
  #board;
  /** @type {Follower | undefined} */
  #follower;
  #commons;
  #name;
  #world;
  #getToken;

  /**
   * @param {import("./seat.js").Commons} commons
   * @param {string} name what those who share have in common
   * @param {DirectWorld} world
   * @param {GetToken | undefined} getToken
   */
  constructor(commons, name, world, getToken) {
    this.#commons = commons;
    this.#name = name;
    this.#world = world;
    this.#getToken = getToken;
  }

  /** @type {World["watch"]} */
  watch = (wake, leave) => {
    this.#wake = wake;
    const unwatch = this.#world.watch(wake, () => {
      leave();
      // A page that is only put aside would keep the others waiting, and one that has a lock cannot be put aside.
      this.#leave();
    });
    return () => {
      unwatch();
      this.#leave();
    };
  };

  /** @returns {Promise<string | null | undefined>} a token, if this tab is to connect */
  getToken = async () => {
    const seat = await this.#seated();
    if (follows(seat)) {
      return NONE;
    }
    let token;
    try {
      token = await this.#getToken?.();
    } finally {
      if (!token && this.#board === undefined && this.#seat === seat) {
        // Another tab may have more luck.
        this.#leave();
      }
    }
    return token;
  };

  /**
   * @param {Transport[]} transports
   * @param {LinkListener} given
   * @returns {Promise<Link>}
   */
  open = async (transports, given) => {
    const seat = await this.#seated();
    const present = { isOver: false, close: () => {} };
    const close = () => {
      present.isOver = true;
      present.close();
      if (!seat.leads) {
        // It is asked for anew, in case it hangs.
        seat.led(undefined);
      }
    };
    this.#lose = (end) => {
      if (!present.isOver) {
        close();
        given.lost(end);
      }
    };
    const link = this.#link(seat, transports, { ...given, lost: this.#lose });
    present.close = () => link.close();
    return { ask: (...of) => link.ask(...of), close };
  };

  /**
   * @param {Seat} seat
   * @param {Transport[]} transports
   * @param {LinkListener} listener
   * @returns {Link}
   */
  #link(seat, transports, listener) {
    const { open, after } = this.#world;
    if (seat.over) {
      after(() => listener.lost(GONE), 0);
      return { ask: () => Promise.reject(new Error("no connection")), close: () => {} };
    }
    if (follows(seat)) {
      const follower = new Follower(seat, String(seat.leader), after, listener);
      this.#follower = follower;
      const close = () => {
        follower.close();
        this.#follower = this.#follower === follower ? undefined : this.#follower;
      };
      return { ask: (...of) => follower.ask(...of), close };
    }
    const auth = () => {
      const said = /** @type {{token?: string}} */ (listener.auth());
      if (said.token === NONE) {
        // From when it followed. It is not offered twice.
        listener.lost(GONE);
      }
      return said;
    };
    const own = { ...listener, auth };
    return seat.leads ? this.#lead(seat, (hears) => open(transports, hears), own) : open(transports, own);
  }

  /**
   * @param {Seat} seat
   * @param {(listener: LinkListener) => Link} open
   * @param {LinkListener} listener
   * @returns {Link}
   */
  #lead(seat, open, listener) {
    const board = new Switchboard(seat.id, listener.auth, open, (ids, told) => {
      const others = ids.filter((id) => id !== seat.id);
      if (others.length > 0) {
        seat.say({ ...told, to: others });
      }
      if (others.length < ids.length) {
        pass(told, listener);
      }
    });
    this.#board = board;
    seat.say({ lead: true });
    const close = () => {
      board.close();
      this.#board = this.#board === board ? undefined : this.#board;
    };
    return { ask: (...of) => board.ask(seat.id, ...of), close };
  }

  async #seated() {
    const seat = (this.#seat ??= this.#enter());
    await seat.role();
    return seat;
  }

  #enter() {
    const seat = new Seat(this.#commons, this.#name, this.#world.after, {
      leads: () => {
        this.#lose(GONE);
        this.#wake();
      },
      message: (message) => this.#hear(seat, message),
    });
    return seat;
  }

  #leave() {
    const seat = this.#seat;
    this.#seat = undefined;
    this.#lose(GONE);
    seat?.leave();
  }

  /**
   * @param {Seat} seat
   * @param {any} message
   */
  #hear(seat, message) {
    const { from, to, hello, lead } = message;
    const follower = this.#follower;
    if (hello && seat.leads) {
      seat.say({ lead: true });
    } else if (lead && !seat.leads) {
      this.#led(seat, from);
    } else if (to === seat.id) {
      this.#serve(seat, message);
    } else if (follower !== undefined && from === follower.leader && to?.includes(follower.id)) {
      follower.hear(message);
    }
  }

  /**
   * @param {Seat} seat
   * @param {string} leader who says that it leads
   */
  #led(seat, leader) {
    if (this.#follower?.leader === leader) {
      this.#follower.connect();
    } else {
      this.#lose(GONE);
    }
    seat.led(leader);
    this.#wake();
  }

  /**
   * @param {Seat} seat
   * @param {any} message a follower's
   */
  #serve(seat, { link, connect, ask: number, event, body, timeoutMs }) {
    const board = this.#board;
    if (board === undefined) {
      // It asks again when there is a connection.
      this.#wake();
    } else if (connect !== undefined) {
      if (board.connect(link, connect)) {
        seat.watch(link, undefined, () => board.drop(link));
      }
    } else {
      const answer = (/** @type {unknown} */ said) => seat.say({ to: [link], answer: number, said });
      board.ask(link, event, JSON.parse(body), timeoutMs).then(answer, () => answer(undefined));
    }
  }
}

/**
 * @param {Seat} seat
 * @returns {boolean}
 */
function follows({ leader, leads }) {
  return leader !== undefined && !leads;
}
