// Loaded on the first use of `hub.push`.
import { errorFrom, messageOf, TidingsError } from "./core/error.js";
import { Listeners } from "./core/listeners.js";
import { subscribeAt } from "./push_manager.js";
import { addressOf, endForeign, endSubscription, loadSubscription, saveSubscription } from "./push_subscription.js";
import { closeIds, closeMarked } from "./shown_notifications.js";

/**
 * `unsupported`: this browser, or this page, has no Web Push; `needsInstall`: it has after the user has added the site
 * to the home screen (iOS). `denied`: the user blocks notifications of this site. `error`: why the last change failed.
 *
 * @typedef {"unsupported" | "denied" | "off" | "on"} PushState
 * @typedef {Readonly<{state: PushState, needsInstall: boolean, error: TidingsError | undefined}>} PushSnapshot
 */

/**
 * `serviceWorker`: its URL, or its registration; by default `/tidings-sw.js` of the page's own site. `scope`: of the
 * registration.
 *
 * @typedef {object} PushOptions
 * @property {string | URL | ServiceWorkerRegistration | undefined} [serviceWorker]
 * @property {string | undefined} [scope]
 */

/**
 * What it needs of the hub.
 *
 * @typedef {object} PushHub
 * @property {string} state
 * @property {string | undefined} user
 * @property {(event: "state", listener: () => void) => () => void} on
 * @property {(name: string) => {on: (event: any, listener: any) => () => void}} channel
 */

/** @typedef {import("./push_subscription.js").SavedSubscription} SavedSubscription */

const EVENT = "tidings:push";
const SERVICE_WORKER = "/tidings-sw.js";
// The hub gets the subscription again after a day: it may have lost it.
const RENEW_MS = 86_400_000;

/**
 * Web Push for this browser: notifications arrive when no page is open. Like a collection it is a store: React's
 * `useSyncExternalStore` takes `subscribe` and `getSnapshot`.
 */
export { endForeign } from "./push_subscription.js";
export class Push {
  /** @type {PushSnapshot} */
  #snapshot = Object.freeze({ state: "unsupported", needsInstall: false, error: undefined });
  #listeners = new Listeners();
  /** @type {ServiceWorkerRegistration | undefined} */
  #registration;
  /** The user whose channel it follows. */
  #user = "";
  /** @type {(() => void)[]} */
  #unfollow = [];
  /** @type {Promise<unknown>} the changes of the subscription, one after the other */
  #changes = Promise.resolve();
  #hub;
  #session;
  #options;

  /**
   * @param {PushHub} hub
   * @param {Pick<import("./session.js").Session, "outbox" | "environment">} session
   * @param {PushOptions} options
   */
  constructor(hub, session, options) {
    this.#hub = hub;
    this.#session = session;
    this.#options = options;
  }

  // These are passed as functions, so they cannot rely on `this`.

  /** @returns {PushSnapshot} the same object until something changes */
  getSnapshot = () => this.#snapshot;

  /**
   * Calls `listener` now and after each change.
   *
   * @param {(snapshot: PushSnapshot) => void} listener
   * @returns {() => void} removes the listener
   */
  subscribe = (listener) => {
    const off = this.#listeners.on("change", listener);
    listener(this.#snapshot);
    return off;
  };

  /**
   * Asks the user for permission, unless it was given, and subscribes this browser. Call it in the handler of a click:
   * browsers ignore the question otherwise.
   *
   * @returns {Promise<void>} rejects with a TidingsError: `forbidden` (the user said no), `not_found` (the hub has no
   *   Web Push), `unsupported`, `load_failed` (the service worker), or `timeout` (the browser's push service)
   */
  async enable() {
    if (!isSupported()) {
      throw new TidingsError("unsupported", "This page has no Web Push: it needs HTTPS, and on iOS an installed site.");
    }
    const { user } = this.#hub;
    // First of all, while the click counts.
    const permission = await Notification.requestPermission();
    if (permission !== "granted") {
      this.#show({ state: permission === "denied" ? "denied" : "off" });
      throw new TidingsError("forbidden", "The user did not allow notifications.");
    }
    await this.#change(() => this.#enable(user));
  }

  /**
   * Unsubscribes this browser.
   *
   * @returns {Promise<void>} rejects with a TidingsError if the hub was not notified; pushes end all the same
   */
  disable() {
    return this.#change(async () => {
      const subscription = await this.#end();
      if (subscription) {
        await this.#request({ unsubscribe: subscription.endpoint });
      }
    });
  }

  /** Follows the hub no longer. The subscription stays. */
  close() {
    [...this.#unfollow].forEach((off) => off());
    this.#unfollow = [];
  }

  /** Finds the state of this browser, and follows the hub. */
  async open() {
    const needsInstall = Object(globalThis.navigator).standalone === false && !("PushManager" in globalThis);
    if (!isSupported()) {
      this.#show({ needsInstall });
      return this;
    }
    const { serviceWorker, scope } = this.#options;
    this.#registration = isRegistration(serviceWorker)
      ? serviceWorker
      : await navigator.serviceWorker.getRegistration(scope).catch(() => undefined);
    await this.#find();
    this.#unfollow.push(this.#hub.on("state", () => this.#onHubState()));
    this.#onHubState();
    return this;
  }

  #onHubState() {
    const { state, user } = this.#hub;
    if (state === "connected" && user !== undefined && user !== this.#user) {
      this.#user = user;
      const channel = this.#hub.channel(`user:${user}`);
      const [offState = () => {}, ...offs] = this.#unfollow;
      offs.forEach((off) => off());
      this.#unfollow = [
        offState,
        channel.on("tidings:inbox", (/** @type {any} */ data) => void closeMarked(this.#registration, data)),
        channel.on("tidings:notification", (/** @type {any} */ data) => {
          void closeIds(this.#registration, data.replaces ?? []);
        }),
      ];
      void this.#change(() => this.#checkUser()).catch(() => {});
    }
  }

  /** The subscription belongs to the user who enabled it. */
  async #checkUser() {
    await endForeign(this.#hub, this.#session.environment.url).finally(() => this.#find());
    const saved = await loadSubscription();
    if (saved && this.#snapshot.state === "on" && Date.now() - saved.savedMs > RENEW_MS) {
      const subscription = await this.#registration?.pushManager.getSubscription();
      await (subscription && this.#register(subscription, saved.publicKey, saved.user));
    }
  }

  /** Shows the state of this browser. */
  async #find() {
    const subscription = await this.#registration?.pushManager.getSubscription();
    const saved = await loadSubscription();
    const isSaved = saved && !saved.isEnded && saved.endpoint === subscription?.endpoint;
    const isOn = isSaved && Notification.permission === "granted";
    this.#show({ state: Notification.permission === "denied" ? "denied" : isOn ? "on" : "off" });
  }

  /** @param {string | undefined} clicked the user who wanted it, if the hub was connected then */
  async #enable(clicked) {
    const registration = await this.#activate();
    const { public_key: publicKey } = await this.#request({});
    const user = clicked ?? this.#hub.user;
    const { pushManager } = registration;
    const saved = await loadSubscription();
    const current = await pushManager.getSubscription();
    if (current && (saved?.publicKey !== publicKey || saved?.user !== user)) {
      // For another key: the hub could not use it. Of another user: messages may be on their way.
      await current.unsubscribe();
    }
    const subscription = await subscribeAt(pushManager, publicKey, this.#session.environment.setTimer);
    try {
      await this.#register(subscription, publicKey, user);
    } catch (error) {
      await this.#end();
      throw error;
    }
    this.#show({ state: "on", error: undefined });
  }

  /** @returns {Promise<ServiceWorkerRegistration>} with an active worker, which `pushManager.subscribe` needs */
  async #activate() {
    const { serviceWorker = SERVICE_WORKER, scope } = this.#options;
    const registration = isRegistration(serviceWorker)
      ? serviceWorker
      : await navigator.serviceWorker.register(serviceWorker, scope === undefined ? {} : { scope });
    this.#registration = registration;
    const worker = registration.installing ?? registration.waiting;
    if (!registration.active && worker) {
      await new Promise((resolve, reject) => {
        worker.addEventListener("statechange", () => {
          if (worker.state === "activated") {
            resolve(undefined);
          } else if (worker.state === "redundant") {
            reject(new Error("it was not installed"));
          }
        });
      });
    }
    return registration;
  }

  /**
   * Sends a subscription to the hub, and keeps for the service worker how to reach it.
   *
   * @param {PushSubscription} subscription
   * @param {string} publicKey
   * @param {string | undefined} user whose it is
   */
  async #register(subscription, publicKey, user) {
    if (user !== this.#hub.user) {
      throw new TidingsError("closed", "Another user signed in.");
    }
    const { id, key } = await this.#request({ subscription: subscription.toJSON() });
    await saveSubscription({
      ...{ id, key, publicKey, endpoint: subscription.endpoint, user, scope: this.#registration?.scope },
      ...{ url: addressOf(this.#session.environment.url), savedMs: Date.now() },
    });
  }

  async #end() {
    const subscription = await endSubscription(this.#registration);
    this.#show({ state: "off", error: undefined });
    return subscription;
  }

  /**
   * @param {() => Promise<void>} change
   * @returns {Promise<void>}
   */
  #change(change) {
    const changed = this.#changes.then(change).catch((cause) => {
      const isOurs = cause instanceof TidingsError;
      const error = isOurs ? cause : new TidingsError("load_failed", messageOf(cause), { cause });
      this.#show({ error });
      throw error;
    });
    this.#changes = changed.catch(() => {});
    return changed;
  }

  /**
   * @param {object} body
   * @returns {Promise<any>}
   */
  async #request(body) {
    const response = await this.#session.outbox.request(EVENT, body);
    if (response.error) {
      throw errorFrom(response.error);
    }
    return response;
  }

  /** @param {Partial<PushSnapshot>} changes */
  #show(changes) {
    this.#snapshot = Object.freeze({ ...this.#snapshot, ...changes });
    this.#listeners.emit("change", this.#snapshot);
  }
}

/** @returns {boolean} */
function isSupported() {
  return "PushManager" in globalThis && "Notification" in globalThis && "serviceWorker" in Object(globalThis.navigator);
}

/**
 * @param {unknown} value
 * @returns {value is ServiceWorkerRegistration}
 */
function isRegistration(value) {
  return typeof Object(value).pushManager === "object";
}
