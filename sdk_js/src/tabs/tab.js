import { LeaderElection } from "./election.js";
import { Follower } from "./follower.js";
import { dispatch, LEADER_LOST } from "./messages.js";
import { Multiplexer } from "./multiplexer.js";
import { TabUser } from "./tab_user.js";

/**
 * @typedef {import("../core/codes.js").CloseReason} CloseReason
 * @typedef {import("../core/reconnect.js").Transport} Transport
 * @typedef {import("../environment.js").Environment} Environment
 * @typedef {import("../socket.js").Link} Link
 * @typedef {import("../socket.js").LinkListener} LinkListener
 * @typedef {import("../tokens.js").GetToken} GetToken
 */

/** @typedef {(transports: Transport[], listener: LinkListener) => Link} OpenDirectLink */
/** @typedef {Omit<Environment, "openLink"> & {openLink: OpenDirectLink}} DirectEnvironment */

/** A follower's token. The hub only receives the leader's. */
const PLACEHOLDER_TOKEN = "-";

/**
 * One of the tabs that share a connection. The leader has the connection, and the others follow. For one session, it
 * replaces the parts of the environment that concern connections.
 */
export class Tab {
  #onWake = () => {};
  /** @type {(reason: CloseReason) => void} ends the session's current link */
  #endLink = () => {};
  /** @type {LeaderElection | undefined} */
  #election;
  /** @type {Multiplexer | undefined} */
  #multiplexer;
  /** @type {Follower | undefined} */
  #follower;
  #api;
  #group;
  #environment;
  #user;
  /** The name of the group that `#election` is for. */
  #joinedGroup = "";

  /**
   * @param {import("./election.js").TabChannelApi} api
   * @param {string} group the same in all tabs that share a connection
   * @param {DirectEnvironment} environment
   * @param {GetToken | undefined} getToken
   */
  constructor(api, group, environment, getToken) {
    this.#api = api;
    this.#group = group;
    this.#environment = environment;
    this.#user = new TabUser(getToken);
  }

  /** @type {Environment["watch"]} */
  watch = (onWake, onLeave) => {
    this.#onWake = onWake;
    const unwatch = this.#environment.watch(onWake, () => {
      onLeave();
      // In the back/forward cache this page would block the others. A page with a lock cannot enter that cache.
      this.#leave();
    });
    return () => {
      unwatch();
      this.#user.onClose();
      this.#leave();
    };
  };

  /** @returns {Promise<string | null | undefined>} a token if this tab connects, otherwise a placeholder */
  getToken = async () => {
    let token;
    if (this.#user.isUnknown) {
      // The group depends on the user, so the token comes first.
      token = await this.#user.readToken();
      if (this.#user.isUnknown) {
        return token;
      }
    }
    const election = await this.#joinElection();
    if (isFollower(election)) {
      return PLACEHOLDER_TOKEN;
    }
    try {
      token ??= await this.#user.readToken();
    } finally {
      if (!token && this.#multiplexer === undefined && this.#election === election) {
        // Another tab may get a token.
        this.#leave();
      }
    }
    return token;
  };

  /**
   * @param {Transport[]} transports
   * @param {LinkListener} listener
   * @returns {Promise<Link>}
   */
  openLink = async (transports, listener) => {
    const election = await this.#joinElection();
    const current = { isClosed: false, close: () => {} };
    const close = () => {
      current.isClosed = true;
      current.close();
      if (!election.isLeader) {
        // The leader may hang, so the next link looks for a leader again.
        election.setLeader(undefined);
      }
    };
    this.#endLink = (reason) => {
      if (!current.isClosed) {
        close();
        listener.onLost(reason);
      }
    };
    const onEvent = (/** @type {[string, unknown[]]} */ ...args) => current.isClosed || listener.onEvent(...args);
    const link = this.#newLink(election, transports, { ...listener, onEvent, onLost: this.#endLink });
    current.close = () => link.close();
    return { request: (...args) => link.request(...args), close };
  };

  /**
   * @param {LeaderElection} election
   * @param {Transport[]} transports
   * @param {LinkListener} listener
   * @returns {Link}
   */
  #newLink(election, transports, listener) {
    const { openLink, setTimer } = this.#environment;
    const follows = isFollower(election);
    if (follows && this.#user.isUnknown) {
      // The hub closed after this token was requested. The token counts as used, so the next attempt gets a new one.
      listener.auth();
    }
    if (election.hasLeft || (follows && this.#user.isUnknown)) {
      setTimer(() => listener.onLost(LEADER_LOST), 0);
      return { request: () => Promise.reject(new Error("no connection")), close: () => {} };
    }
    if (follows) {
      return this.#followerLink(
        election,
        this.#user.check(listener, () => this.#leave()),
      );
    }
    const auth = () => {
      const payload = /** @type {{token?: string}} */ (listener.auth());
      if (payload.token === PLACEHOLDER_TOKEN) {
        // This tab was a follower when it called `getToken`. The next attempt gets a token.
        listener.onLost(LEADER_LOST);
      }
      return payload;
    };
    const ownListener = this.#user.check({ ...listener, auth });
    return election.isLeader
      ? this.#leaderLink(election, (hubListener) => openLink(transports, hubListener), ownListener)
      : openLink(transports, ownListener);
  }

  /**
   * @param {LeaderElection} election
   * @param {LinkListener} listener
   * @returns {Link}
   */
  #followerLink(election, listener) {
    const follower = new Follower(election, String(election.leaderId), this.#environment.setTimer, listener);
    this.#follower = follower;
    const close = () => {
      follower.close();
      this.#follower = this.#follower === follower ? undefined : this.#follower;
    };
    return { request: (...args) => follower.request(...args), close };
  }

  /**
   * @param {LeaderElection} election
   * @param {(listener: LinkListener) => Link} open
   * @param {LinkListener} listener
   * @returns {Link}
   */
  #leaderLink(election, open, listener) {
    const multiplexer = new Multiplexer(election.id, listener.auth, open, (ids, message) => {
      const others = ids.filter((id) => id !== election.id);
      if (others.length > 0) {
        election.broadcast({ ...message, to: others });
      }
      if (others.length < ids.length) {
        dispatch(message, listener);
      }
    });
    this.#multiplexer = multiplexer;
    election.broadcast({ lead: true });
    const close = () => {
      multiplexer.close();
      this.#multiplexer = this.#multiplexer === multiplexer ? undefined : this.#multiplexer;
    };
    return { request: (...args) => multiplexer.request(election.id, ...args), close };
  }

  async #joinElection() {
    const group = this.#user.nameOf(this.#group);
    if (group !== this.#joinedGroup) {
      this.#leave();
      this.#joinedGroup = group;
    }
    const election = (this.#election ??= this.#newElection());
    await election.waitForLeader();
    return election;
  }

  #newElection() {
    const election = new LeaderElection(this.#api, this.#joinedGroup, this.#environment.setTimer, {
      onElected: () => {
        this.#endLink(LEADER_LOST);
        this.#onWake();
      },
      onMessage: (message) => this.#onMessage(election, message),
    });
    return election;
  }

  #leave() {
    const election = this.#election;
    this.#election = undefined;
    this.#endLink(LEADER_LOST);
    election?.leave();
  }

  /**
   * @param {LeaderElection} election
   * @param {any} message
   */
  #onMessage(election, message) {
    const { from, to, hello, lead } = message;
    const follower = this.#follower;
    if (hello && election.isLeader) {
      election.broadcast({ lead: true });
    } else if (lead && !election.isLeader) {
      this.#onLeader(election, from);
    } else if (to === election.id) {
      this.#serveFollower(election, message);
    } else if (follower !== undefined && from === follower.leaderId && to?.includes(follower.id)) {
      follower.onMessage(message);
    }
  }

  /**
   * @param {LeaderElection} election
   * @param {string} leaderId
   */
  #onLeader(election, leaderId) {
    if (this.#follower?.leaderId === leaderId) {
      this.#follower.connect();
    } else {
      this.#endLink(LEADER_LOST);
    }
    election.setLeader(leaderId);
    this.#onWake();
  }

  /**
   * @param {LeaderElection} election
   * @param {any} message from a follower
   */
  #serveFollower(election, { link, connect, ask: number, event, body, timeoutMs }) {
    const multiplexer = this.#multiplexer;
    if (multiplexer === undefined) {
      // The follower sends its message again when this tab has a connection.
      this.#onWake();
    } else if (connect !== undefined) {
      if (multiplexer.addLink(link, connect)) {
        election.watchLock(link, undefined, () => multiplexer.removeLink(link));
      }
    } else {
      const respond = (/** @type {unknown} */ response) => {
        election.broadcast({ to: [link], answer: number, said: response });
      };
      multiplexer.request(link, event, JSON.parse(body), timeoutMs).then(respond, () => respond(undefined));
    }
  }
}

/**
 * @param {LeaderElection} election
 * @returns {boolean}
 */
function isFollower({ leaderId, isLeader }) {
  return leaderId !== undefined && !isLeader;
}
