import { TidingsError } from "./core/error.js";
import { Hub } from "./hub.js";
import { LazySession } from "./lazy_session.js";
import { Session } from "./session.js";
import { socketTo } from "./socket.js";

/**
 * @typedef {import("./environment.js").SavedState} SavedState
 * @typedef {import("./options.js").Options} Options
 */

/**
 * Connects to the hub at `url`: at once in a browser. Without a page, a module may be loaded only to render one on a
 * server, so the first listener or request connects.
 *
 * @param {import("./parts.js").Parts} parts
 * @param {string | URL} url
 * @param {Options} options
 * @returns {Hub}
 */
export function connectWith(parts, url, options) {
  const { keepAs, keepQueueAs } = options;
  const isPage = "document" in globalThis || "WorkerGlobalScope" in globalThis;
  const environment = {
    parts,
    url: `${url}`,
    openLink: onFirstUse(`${url}`),
    nowMs: () => performance.now(),
    setTimer: (/** @type {() => void} */ callback, /** @type {number} */ delayMs) => {
      const timer = setTimeout(callback, delayMs);
      return () => clearTimeout(timer);
    },
    random: Math.random,
    watch: watchPage,
    saved: keepAs === undefined ? { channels: [] } : loadState(keepAs),
    save: (/** @type {SavedState} */ state) => keepAs !== undefined && saveState(keepAs, state),
  };
  if (!isPage && globalThis.navigator?.product !== "ReactNative") {
    return new Hub(new LazySession(environment, options));
  }
  const session = options.shareTabs
    ? sharedSession(url, environment, options)
    : new Session(environment, options);
  const hub = new Hub(session);
  const reportAs = (/** @type {string} */ text) => (/** @type {unknown} */ cause) =>
    session.report(new TidingsError("not_loaded", text, { cause }));
  if (keepQueueAs !== undefined) {
    const opening = parts.queue().then(({ openQueue }) => openQueue(keepQueueAs, session));
    session.keptQueue = opening.catch(reportAs("Publishes end with this page."));
  }
  closePrevious(hub, `tidings ${url}`, options.hot);
  hub.on("state", () => void checkPush(hub, environment).catch(reportAs("Push was not checked.")));
  session.start();
  return hub;
}

/**
 * Another user must not get the pushes of the one who enabled them, also on a page that does not use push.
 *
 * @param {Hub} hub
 * @param {{parts: import("./parts.js").Parts, url: string}} environment
 */
async function checkPush(hub, { parts, url }) {
  if (hub.user && (await globalThis.caches?.has("tidings-push"))) {
    const { endForeign } = await parts.push();
    await endForeign(hub, url);
  }
}

/**
 * Closes this hub when its module is replaced, and the hub of the module that this one replaces. webpack calls
 * `dispose` of every replaced module. Vite calls it only for a module that accepts itself, but keeps `data`.
 *
 * @param {Hub} hub
 * @param {string} key
 * @param {import("./options.js").HotModule} [hot]
 */
function closePrevious(hub, key, hot) {
  hot?.dispose(() => hub.close());
  const hubs = hot?.data ?? {};
  hubs[key]?.close();
  hubs[key] = hub;
}

/**
 * As `socketTo`, but if the address is none of a hub, the hub closes with `bad_url`. So is a relative one, unless a
 * page makes it absolute.
 *
 * @param {string | URL} url
 * @returns {(...args: Parameters<ReturnType<typeof socketTo>>) => import("./socket.js").Link}
 */
function onFirstUse(url) {
  return (transports, listener) => {
    try {
      return socketTo(url)(transports, listener);
    } catch (cause) {
      const message = `"${url}" is no absolute URL of a hub.`;
      listener.onLost({ code: "bad_url", refused: true, message, cause });
      return { request: () => Promise.reject(cause), close: () => {} };
    }
  };
}

/**
 * A session that may use the connection of another tab. The code for this is loaded only here; if it cannot be loaded,
 * the session has its own connection.
 *
 * @param {string | URL} url
 * @param {import("./tabs/tab.js").DirectEnvironment & {parts: import("./parts.js").Parts}} environment
 * @param {Options} options
 * @returns {Session}
 */
function sharedSession(url, environment, options) {
  const loading = environment.parts
    .tabs()
    .then(({ share }) => share(url, environment, options))
    .catch(() => ({ ...environment, ...options }));
  return new Session(
    {
      ...environment,
      openLink: async (...args) => (await loading).openLink(...args),
      watch: (...args) => {
        const unwatching = loading.then((tab) => tab.watch(...args));
        return () => void unwatching.then((unwatch) => unwatch());
      },
    },
    { ...options, getToken: options.getToken && (async () => (await loading).getToken?.()) },
  );
}

/** @type {import("./environment.js").Environment["watch"]} */
function watchPage(onWake, onLeave) {
  const page = globalThis.document;
  const unwatched = new AbortController();
  if (page) {
    addEventListener("online", onWake, unwatched);
    addEventListener("pageshow", ({ persisted }) => onWake(persisted), unwatched);
    addEventListener("pagehide", onLeave, unwatched);
    page.addEventListener("visibilitychange", () => page.visibilityState === "visible" && onWake(), unwatched);
  }
  return () => unwatched.abort();
}

/**
 * @param {string} key
 * @returns {SavedState}
 */
function loadState(key) {
  try {
    const { cursor, channels, user } = JSON.parse(String(sessionStorage.getItem(key)));
    return { cursor: String(cursor), channels: channels.map(String), user };
  } catch {
    // The key is missing or holds another format, or the browser blocks sessionStorage.
    return { channels: [] };
  }
}

/**
 * @param {string} key
 * @param {SavedState} state
 */
function saveState(key, state) {
  try {
    sessionStorage.setItem(key, JSON.stringify(state));
  } catch {
    // sessionStorage is blocked or full: the next page cannot recover, and loads its data again.
  }
}
