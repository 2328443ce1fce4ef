import { RETRYABLE_CODES } from "./core/codes.js";
import { errorFrom } from "./core/error.js";
import { MemberList } from "./core/members.js";
import { NOT_LOADED } from "./core/presence_snapshot.js";

/**
 * @typedef {import("./core/error.js").TidingsError} TidingsError
 * @typedef {import("./core/members.js").MemberChanges} MemberChanges
 * @typedef {import("./core/subscriptions.js").Subscription} Subscription
 */

const RETRY_MS = 5000;
const EVENTS = ["tidings:change", "tidings:join", "tidings:leave"];

/** Requests the members of every channel that has a presence listener. */
export class PresenceClient {
  /** @type {WeakMap<Subscription, MemberList>} */
  #lists = new WeakMap();
  #session;

  /** @param {import("./session.js").Session} session */
  constructor(session) {
    this.#session = session;
    session.listeners.on("transport", (name) => name === undefined && this.#onLost());
  }

  /** @returns {string[]} for CONNECT: the channels whose list the hub may confirm as still correct */
  namesForConnect() {
    return this.#session.channels.all
      .filter((subscription) => isWatched(subscription) && this.#lists.get(subscription)?.hasList)
      .map(({ name }) => name);
  }

  /** Starts and ends presence for channels whose listeners changed, and sends the requests that are due. */
  update() {
    for (const subscription of this.#session.channels.all) {
      const list = this.#lists.get(subscription);
      if (isWatched(subscription)) {
        this.#watch(subscription, list ?? new MemberList());
      } else if (list !== undefined) {
        this.#unwatch(subscription, list);
      }
    }
  }

  /**
   * Applies an event of the hub.
   *
   * @param {string} event
   * @param {unknown[]} values
   */
  onEvent(event, [data, channel, cursor]) {
    const body = Object(data);
    if (event === "tidings:ready" || event === "tidings:gap") {
      for (const [name, result] of Object.entries(Object(body.presence))) {
        this.#apply(name, (list) => list.onSubscribeResult(Object(result)));
      }
    } else if (event === "tidings:join" || event === "tidings:leave" || event === "tidings:stats") {
      this.#apply(String(channel), (list) => list.onEvent(event, body, cursor));
    } else if (event === "tidings:subscribed") {
      // A backend may have granted a channel that was refused. The session applies it after this call, then updates.
      this.#session.subscribeSoon();
    }
  }

  #onLost() {
    for (const subscription of this.#session.channels.all) {
      this.#lists.get(subscription)?.onChannelState("subscribing", undefined);
    }
  }

  /**
   * @param {Subscription} subscription
   * @param {MemberList} list
   */
  #unwatch(subscription, list) {
    const { outbox, report } = this.#session;
    this.#lists.delete(subscription);
    subscription.presence = undefined;
    if (list.receivesEvents) {
      outbox
        .request("tidings:unsubscribe", { presence: [subscription.name] })
        .catch(report);
    }
  }

  /**
   * @param {Subscription} subscription
   * @param {MemberList} list
   */
  #watch(subscription, list) {
    const { name } = subscription;
    this.#lists.set(subscription, list);
    list.onChannelState(subscription.isJoined ? "subscribed" : subscription.state, subscription.error);
    this.#emitChanges(subscription, list);
    const due = list.takeRequest();
    if (due === "subscribe") {
      this.#request(name, list, "tidings:subscribe", { presence: [name] }, ({ presence }) =>
        list.onSubscribeResult(Object(Object(presence)[name])),
      );
    } else if (due === "load") {
      this.#request(name, list, "tidings:presence", { channel: name }, (response) => list.onLoaded(response));
    }
  }

  /**
   * @param {string} name
   * @param {MemberList} list
   * @param {string} event
   * @param {object} body
   * @param {(response: any) => MemberChanges | void} onResponse
   */
  #request(name, { attempt }, event, body, onResponse) {
    const { outbox, environment } = this.#session;
    // After a reconnect or a gap the request is sent again, so a response to the earlier one is ignored.
    const apply = (/** @type {(list: MemberList) => MemberChanges | void} */ change) =>
      this.#apply(name, (list) => (list.attempt === attempt ? change(list) : undefined));
    const onError = (/** @type {TidingsError} */ error) => {
      if (RETRYABLE_CODES.has(error.code) || error.code === "queue_full") {
        apply((list) => list.onRequestFailed(error));
        environment.setTimer(() => apply((list) => list.retry()), RETRY_MS * environment.random());
      } else {
        apply((list) => list.onSubscribeResult({ error }));
      }
    };
    void outbox.request(event, body).then((response) => apply(() => onResponse(response)), onError);
  }

  /**
   * Changes a list, emits the resulting events, and schedules the next request.
   *
   * @param {string} name
   * @param {(list: MemberList) => MemberChanges | void} change
   */
  #apply(name, change) {
    const subscription = this.#session.channels.get(name);
    const list = subscription && this.#lists.get(subscription);
    if (subscription !== undefined && list !== undefined) {
      this.#emitChanges(subscription, list, change(list));
      this.#session.subscribeSoon();
    }
  }

  /**
   * @param {Subscription} subscription
   * @param {MemberList} list
   * @param {MemberChanges | void} [changes]
   */
  #emitChanges(subscription, { snapshot }, changes) {
    const previous = subscription.presence ?? NOT_LOADED;
    if (previous !== snapshot) {
      const { error } = snapshot;
      subscription.presence = snapshot;
      subscription.listeners.emit("tidings:change", snapshot);
      // A refusal of the channel itself is reported with the channel, the end of the connection by the session.
      if (error && error !== previous.error && error !== subscription.error) {
        this.#session.report(errorFrom(error, subscription.name));
      }
    }
    changes?.joined.forEach((member) => subscription.listeners.emit("tidings:join", member));
    changes?.left.forEach((member) => subscription.listeners.emit("tidings:leave", member));
  }
}

/**
 * @param {Subscription} subscription
 * @returns {boolean} whether it has a presence listener
 */
function isWatched({ listeners }) {
  return EVENTS.some((event) => listeners.has(event));
}
