import { RETRYABLE_CODES } from "../core/codes.js";
import { errorFrom } from "../core/error.js";
import { Positions } from "../core/positions.js";
import { NO_RESPONSE, request } from "../socket.js";
import { JoinQueue } from "./join_queue.js";
import { errorResults, readyEvents } from "./join_request.js";
import { LinkSubscriptions } from "./link_subscriptions.js";
import { isChannelEvent, LEADER_LOST, lostThrough } from "./messages.js";
import { SerialQueue } from "./serial_queue.js";

/**
 * @typedef {import("../core/codes.js").CloseReason} CloseReason
 * @typedef {import("../socket.js").Link} Link
 * @typedef {import("../socket.js").LinkListener} LinkListener
 * @typedef {import("./join_request.js").JoinOptions} JoinOptions
 * @typedef {import("./join_request.js").SubscribeResults} SubscribeResults
 * @typedef {import("./messages.js").HubEvent} HubEvent
 * @typedef {import("./messages.js").LinkMessage} LinkMessage
 */

// For the leader's own link only, since the leader has the token.
const LEADER_EVENTS = new Set(["tidings:close", "tidings:expiring"]);
/** More events than a hub sends during one request. */
const HELD_MAX = 10_000;

/**
 * Serves several links, including the leader's own, over one connection to the hub, from opening to closing.
 *
 * Each tab keeps its own cursor. Only the hub has what a tab missed: the multiplexer subscribes to those channels again
 * from the lowest cursor, and each tab discards by seq what it already has.
 */
export class Multiplexer {
  /** @type {Map<string, LinkSubscriptions>} by the link's id */
  #links = new Map();
  #joins = new JoinQueue();
  /** The subscriptions of the connection. */
  #granted = new LinkSubscriptions();
  #positions = new Positions(undefined);
  /** @type {HubEvent[] | undefined} events during a request with a cursor: a link must receive all of them or none */
  #heldEvents;
  /** @type {any} the body of `tidings:ready` */
  #ready = {};
  /** @type {import("../core/reconnect.js").Transport} */
  #transport = "websocket";
  #isClosed = false;
  /** Requests that must not overlap, so that the order of their effects is known. */
  #queue = new SerialQueue();
  #ownId;
  #send;
  #link;

  /**
   * @param {string} ownId the id of the leader's own link
   * @param {() => object} auth returns the leader's CONNECT payload
   * @param {(listener: LinkListener) => Link} open
   * @param {(ids: string[], message: LinkMessage) => void} send
   */
  constructor(ownId, auth, open, send) {
    this.#ownId = ownId;
    this.#send = send;
    this.#link = open({
      auth: () => {
        const { token, ...options } = /** @type {JoinOptions & {token?: string}} */ (auth());
        this.addLink(ownId, options);
        return { token, ...this.#joins.takeBatch(this.#granted, undefined, undefined) };
      },
      onEvent: (event, values) => this.#onEvent({ event, values }),
      onTransport: (name) => {
        this.#transport = name;
        send([...new Set(this.#links.keys()).add(ownId)], { transport: name });
      },
      onLost: (reason) => this.#onLost(reason),
    });
  }

  /**
   * @param {string} id
   * @param {JoinOptions} options
   * @returns {boolean} whether the link is new
   */
  addLink(id, options) {
    const isNew = !this.#links.has(id) && !this.#joins.ids.includes(id);
    if (isNew) {
      const join = this.#join(id, options, true, (results, held) => {
        const link = new LinkSubscriptions();
        this.#links.set(id, link);
        link.applyResults(results);
        // Only the leader refreshes the token, so only the leader receives its lifetime.
        const ready = { ...this.#ready, ...(id !== this.#ownId && { expires_in_s: undefined }) };
        this.#send([id], { transport: this.#transport });
        this.#send([id], { events: readyEvents(join, { ...ready, ...results }, this.#positions.cursor, held) });
      });
    }
    return isNew;
  }

  /**
   * Handles a link's request.
   *
   * @param {string} id
   * @param {string} event empty: a check whether this page responds
   * @param {any} body
   * @param {number} timeoutMs
   * @returns {Promise<any>} the response; rejects if there is none
   */
  async request(id, event, body, timeoutMs) {
    const link = this.#links.get(id);
    if (link === undefined) {
      throw new Error("no connection");
    }
    switch (event) {
      case "":
        return {};
      case "tidings:subscribe":
        return new Promise((resolve) => {
          this.#join(id, body, false, (results) => {
            link.applyResults(results);
            resolve({ cursor: this.#positions.cursor, ...results });
          });
        });
      case "tidings:unsubscribe":
        link.remove(body);
        this.#unsubscribeUnused();
        return {};
      case "tidings:refresh":
        return this.#queue.add(() => this.#refresh(body, timeoutMs));
      default:
        return this.#link.request(event, body, timeoutMs);
    }
  }

  /** @param {string} id of a link that ended */
  removeLink(id) {
    this.#links.delete(id);
    this.#joins.remove(id);
    this.#unsubscribeUnused();
  }

  close() {
    this.#fail(undefined);
  }

  /** @returns {LinkSubscriptions[]} those of the connection and of all links */
  get #all() {
    return [this.#granted, ...this.#links.values()];
  }

  /** @param {HubEvent} hubEvent */
  #onEvent(hubEvent) {
    const { event, values } = hubEvent;
    const [body, , cursor] = values;
    if (event === "tidings:ready") {
      this.#ready = Object(body);
      this.#positions.advance(this.#ready.cursor);
      this.#applyResponse(this.#ready);
      this.#queue.start();
    } else if (LEADER_EVENTS.has(event)) {
      this.#send([this.#ownId], { events: [hubEvent] });
    } else {
      this.#positions.advance(isChannelEvent(hubEvent) ? cursor : body?.cursor);
      if (this.#heldEvents === undefined) {
        this.#send(this.#linkIds((link) => link.receives(hubEvent)), { events: [hubEvent] });
      } else if (this.#heldEvents.push(hubEvent) > HELD_MAX) {
        this.#fail(LEADER_LOST);
      }
      if (event === "tidings:subscribed") {
        // A backend subscribed this connection, and so every link, as if each had its own connection.
        Object.keys(body.channels).forEach((name) => this.#all.forEach((link) => link.channels.add(name)));
      } else if (event === "tidings:unsubscribed") {
        this.#removeChannels(body.channels);
        if (this.#joins.isPending) {
          // The order of this event and the pending subscribe request at the hub is unknown.
          this.#fail(LEADER_LOST);
        }
      }
    }
  }

  /** @type {JoinQueue["add"]} */
  #join(id, options, isConnect, respond) {
    void this.#queue.add(() => this.#subscribe());
    return this.#joins.add(id, options, isConnect, respond);
  }

  async #subscribe() {
    const batch = this.#joins.takeBatch(this.#granted, this.#positions.cursor, this.#ready.user);
    // Until the response, publications of these channels can arrive out of order.
    this.#heldEvents = batch.since === undefined ? undefined : [];
    const isNeeded = batch.channels.length + batch.presence.length > 0;
    const response = isNeeded ? ((await request(this.#link, "tidings:subscribe", batch)) ?? NO_RESPONSE) : {};
    const error = response.error && errorFrom(response.error);
    if (this.#isClosed) {
      return;
    }
    if (error === undefined) {
      this.#applyResponse(response);
    } else if (batch.since !== undefined || RETRYABLE_CODES.has(error.code)) {
      // It is unknown which of these channels are still subscribed.
      this.#fail(error);
    } else {
      this.#applyResponse(errorResults(batch, response));
    }
  }

  /** @param {{channels?: object, presence?: object}} response of the hub to CONNECT or a subscribe request */
  #applyResponse(response) {
    const batch = this.#joins.finishBatch(this.#ready.user);
    /** @type {SubscribeResults} */
    const results = { channels: Object(response.channels), presence: Object(response.presence) };
    this.#granted.applyResults(results);
    const held = this.#heldEvents ?? [];
    this.#heldEvents = undefined;
    for (const [id, link] of [...this.#links]) {
      const events = held.filter((hubEvent) => link.receives(hubEvent));
      const { isRefused, gap } = link.effectOf(batch.some((join) => join.id === id) ? {} : results);
      if (gap !== undefined) {
        events.push({ event: "tidings:gap", values: [{ cursor: this.#positions.cursor, ...gap }] });
      }
      if (events.length > 0) {
        this.#send([id], { events });
      }
      if (isRefused) {
        this.#dropLinks([id]);
      }
    }
    for (const join of batch) {
      const resultsOf = (/** @type {import("./join_request.js").Kind} */ kind) =>
        Object.fromEntries(join[kind].map((name) => [name, results[kind][name] ?? { recovered: false }]));
      join.respond({ channels: resultsOf("channels"), presence: resultsOf("presence") }, held);
    }
    this.#unsubscribeUnused();
  }

  /**
   * @param {object} body
   * @param {number} timeoutMs
   */
  async #refresh(body, timeoutMs) {
    const response = /** @type {any} */ (await this.#link.request("tidings:refresh", body, timeoutMs));
    if (response.error === undefined) {
      const { left } = response;
      // A link with a channel that the new token does not cover reconnects, and is refused. A refused link reconnects
      // as well, because the new token may allow more.
      const isAffected = (/** @type {LinkSubscriptions} */ link) =>
        link.wasRefused || [...link.channels].some((name) => left.includes(name));
      this.#dropLinks(this.#linkIds((link, id) => id !== this.#ownId && isAffected(link)));
      this.#removeChannels(left);
    }
    return response;
  }

  /** @param {string[]} channels no longer subscribed at the hub */
  #removeChannels(channels) {
    this.#all.forEach((link) => link.remove({ channels }));
  }

  /** Unsubscribes from everything that no link uses any more. */
  #unsubscribeUnused() {
    void this.#queue.add(async () => {
      const unused = this.#granted.unusedBy([...this.#links.values()], `user:${this.#ready.user}`);
      if (unused !== undefined) {
        this.#granted.remove(unused);
        await request(this.#link, "tidings:unsubscribe", unused);
      }
    });
  }

  /**
   * @param {(link: LinkSubscriptions, id: string) => boolean} matches
   * @returns {string[]} ids of the matching links
   */
  #linkIds(matches) {
    return [...this.#links].filter(([id, link]) => matches(link, id)).map(([id]) => id);
  }

  /** @param {string[]} ids links that have to reconnect */
  #dropLinks(ids) {
    this.#send(ids, { lost: LEADER_LOST });
    ids.forEach((id) => this.removeLink(id));
  }

  /** @param {CloseReason | undefined} reason undefined: the leader itself closed the link */
  #fail(reason) {
    this.#link.close();
    this.#onLost(reason);
  }

  /** @param {CloseReason | undefined} reason */
  #onLost(reason) {
    if (!this.#isClosed) {
      this.#isClosed = true;
      this.#queue.stop();
      const ids = new Set([...this.#links.keys(), ...this.#joins.ids]);
      this.#send([...ids].filter((id) => id !== this.#ownId), { lost: lostThrough(reason) });
      if (reason !== undefined) {
        this.#send([this.#ownId], { lost: reason });
      }
    }
  }
}
