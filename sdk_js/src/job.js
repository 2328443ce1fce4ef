// Loaded on the first use of `hub.job`.
import { errorFrom, messageOf, TidingsError } from "./core/error.js";
import { Listeners } from "./core/listeners.js";

/**
 * The states that a backend knows. `progress` is a number from 0 to 1, or null. `response` is the response of the view
 * once the state is `done`; its body can be read once. `error`: why there is none, or why the last request failed.
 *
 * @typedef {"queued" | "running" | "done" | "failed" | "cancelled"} JobState
 * @typedef {Readonly<{state: JobState, progress: number | null, message: string, response: Response | undefined,
 *   error: TidingsError | undefined}>} JobSnapshot
 */

/** @typedef {Partial<JobSnapshot>} JobChanges */

/**
 * What a job needs of the hub.
 *
 * @typedef {object} JobHub
 * @property {string} state
 * @property {string | undefined} user
 * @property {(event: "state", listener: () => void) => () => void} on
 * @property {(name: string) => {on: (event: any, listener: any) => () => void}} channel
 */

/**
 * `init`: for each request, such as `headers` with a token of your own, or `credentials`. `fetch`: replaces that of the
 * platform.
 *
 * @typedef {{init?: RequestInit | undefined, fetch?: typeof fetch | undefined}} JobOptions
 */

const STATE_HEADER = "Tidings-Job";
// Between two requests: while events arrive, and while there is no connection to the hub.
const CHECK_MS = 15_000;
const POLL_MS = 2000;
const ENDED = new Set(["done", "failed", "cancelled"]);
const FINAL_STATUSES = new Set([400, 401, 403, 404, 405, 410]);

/**
 * A background job of the application's backend (docs/background-jobs.md). It follows the events of the user's channel,
 * and requests its location at the start, at the end, and when it may have missed an event. Like a collection it is a
 * store: React's `useSyncExternalStore` takes `subscribe` and `getSnapshot`.
 */
export class Job {
  /** @type {JobSnapshot} */
  #snapshot = Object.freeze({ state: "queued", progress: null, message: "", response: undefined, error: undefined });
  #listeners = new Listeners();
  #cancelTimer = () => {};
  /** @type {(() => void)[]} */
  #unfollow = [];
  /** The user whose channel it follows. */
  #user = "";
  #visit;
  #isEnded = false;
  #isRequested = false;
  #isAgain = false;
  /** @type {(response: Response) => void} */
  #resolve = () => {};
  /** @type {(error: TidingsError) => void} */
  #reject = () => {};
  #hub;
  #clock;
  #options;

  /**
   * @param {string | URL} location
   * @param {JobHub} hub
   * @param {{environment: {setTimer: import("./timers.js").SetTimer}, listeners: Listeners}} session
   * @param {import("./outbox.js").Outbox["visit"]} visit in which it was wanted
   * @param {JobOptions} [options]
   */
  constructor(location, hub, { environment, listeners }, visit, options = {}) {
    /** @readonly */
    this.location = `${location}`;
    /**
     * Resolves with the response of the view, whatever its status. Rejects with a TidingsError if the job failed or was
     * cancelled, or if its location does not have it.
     *
     * @readonly
     * @type {Promise<Response>}
     */
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // Who only subscribes has the error in the snapshot.
    this.done.catch(() => {});
    this.#hub = hub;
    this.#clock = environment;
    this.#visit = visit;
    this.#options = options;
    const offUser = listeners.on("user", () => this.#user !== "" && this.#endForOther());
    const offState = hub.on("state", () => this.#onHubState());
    this.#unfollow.push(() => [offUser, offState].forEach((off) => off()));
    this.#onHubState();
  }

  // These are passed as functions, so they cannot rely on `this`.

  /** @returns {JobSnapshot} the same object until something changes */
  getSnapshot = () => this.#snapshot;

  /**
   * Calls `listener` now and after each change.
   *
   * @param {(snapshot: JobSnapshot) => void} listener
   * @returns {() => void} removes the listener
   */
  subscribe = (listener) => {
    const off = this.#listeners.on("change", listener);
    listener(this.#snapshot);
    return off;
  };

  /**
   * Requests that the job ends. A function that runs decides when; `done` then rejects with `cancelled`.
   *
   * @returns {Promise<void>} rejects with a TidingsError if the backend did not take the request
   */
  async cancel() {
    const response = await this.#fetch("DELETE");
    if (!response.ok) {
      throw await errorOf(response);
    }
    void this.#request();
  }

  /** Follows the job no longer. The job itself goes on, and `done` stays open. */
  close() {
    this.#isEnded = true;
    this.#stop();
  }

  /** The hub has connected, perhaps as another user, or has lost its connection. */
  #onHubState() {
    const { user, state } = this.#hub;
    if (state === "connected" && user !== undefined && user !== this.#user) {
      if (this.#user === "" && this.#visit.error && this.#visit.user !== user) {
        // The user who wanted it was never connected, or not any more when its code was loaded.
        this.#endForOther();
        return;
      }
      this.#user = user;
      this.#follow(this.#hub.channel(`user:${user}`));
    }
    void this.#request();
  }

  /** The job is the last user's: `init` may have that user's token, and this one must not see the response. */
  #endForOther() {
    const error = new TidingsError("closed", "Another user signed in.");
    this.#end({ state: "failed", progress: null, message: "", error });
  }

  /** @param {ReturnType<JobHub["channel"]>} channel */
  #follow(channel) {
    const [offHub = () => {}, ...offs] = this.#unfollow;
    offs.forEach((off) => off());
    this.#unfollow = [
      offHub,
      channel.on("tidings:job", (/** @type {any} */ data) => this.#onEvent(data)),
      channel.on("tidings:gap", () => void this.#request()),
    ];
  }

  /** @param {any} data */
  #onEvent(data) {
    if (!this.#isEnded && Object(data).id === idOf(this.location)) {
      if (ENDED.has(data.state)) {
        void this.#request();
      } else {
        this.#show(data);
        this.#schedule();
      }
    }
  }

  /** Requests the location now. During a request the next one waits for its end: this one may be too early. */
  async #request() {
    if (this.#isEnded || this.#isRequested) {
      this.#isAgain = true;
      return;
    }
    this.#isRequested = true;
    this.#isAgain = false;
    try {
      await this.#apply(await this.#fetch("GET"));
    } catch (cause) {
      const text = `The job was not requested: ${messageOf(cause)}`;
      void (this.#isEnded || this.#show({ error: new TidingsError("unreachable", text, { cause }) }));
    }
    this.#isRequested = false;
    if (this.#isAgain) {
      void this.#request();
    } else {
      this.#schedule();
    }
  }

  #schedule() {
    this.#cancelTimer();
    if (!this.#isEnded) {
      const delayMs = this.#hub.state === "connected" ? CHECK_MS : POLL_MS;
      this.#cancelTimer = this.#clock.setTimer(() => void this.#request(), delayMs);
    }
  }

  /** @param {Response} response */
  async #apply(response) {
    const changes = await changesIn(response);
    if (this.#isEnded) {
      return;
    }
    if (ENDED.has(changes.state ?? "")) {
      this.#end(changes);
    } else {
      this.#show(changes);
    }
  }

  /** @param {JobChanges} changes its last ones, with `response` or `error` */
  #end(changes) {
    this.#isEnded = true;
    this.#stop();
    this.#show(changes);
    if (changes.error) {
      this.#reject(changes.error);
    } else {
      this.#resolve(/** @type {Response} */ (changes.response));
    }
  }

  #stop() {
    this.#cancelTimer();
    this.#unfollow.forEach((off) => off());
    this.#unfollow = [];
  }

  /** @param {JobChanges} changes */
  #show(changes) {
    const { state, progress, message, response, error } = { ...this.#snapshot, ...changes };
    this.#snapshot = Object.freeze({ state, progress, message, response, error });
    this.#listeners.emit("change", this.#snapshot);
  }

  /**
   * @param {string} method
   * @returns {Promise<Response>}
   */
  #fetch(method) {
    const { init, fetch: send = globalThis.fetch } = this.#options;
    // The location has a new response each time.
    return send(this.location, { cache: "no-store", ...init, method });
  }
}

/**
 * @param {string} location
 * @returns {string} the last part of its path
 */
function idOf(location) {
  return location.replace(/[?#].*$|\/+$/gu, "").replace(/^.*\//u, "");
}

/**
 * @param {Response} response of the backend
 * @returns {Promise<JobChanges>}
 */
async function changesIn(response) {
  const state = /** @type {JobState | null} */ (response.headers.get(STATE_HEADER));
  if (state === "done" || (response.redirected && !state)) {
    // The view may have redirected: then this is what it redirected to.
    return { state: "done", response, error: undefined };
  }
  if (state && !ENDED.has(state)) {
    const { progress, message } = await response.json();
    return { state, progress, message, error: undefined };
  }
  const error = await errorOf(response);
  const isFinal = state !== null || FINAL_STATUSES.has(response.status);
  return isFinal ? { state: state ?? "failed", error } : { error };
}

/**
 * @param {Response} response
 * @returns {Promise<TidingsError>} the error in a response of the backend, or one with its status
 */
async function errorOf(response) {
  const body = await response.json().catch(() => undefined);
  const { code, message, error_id: id } = Object(body);
  return errorFrom({
    code: code ?? "bad_response",
    message: `${message ?? `${response.status} ${response.url}`}${id ? ` (error_id ${id})` : ""}`,
  });
}
