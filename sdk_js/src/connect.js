import { Hub } from "./hub.js";
import { Session } from "./session.js";
import { socketTo } from "./socket.js";

/**
 * @typedef {import("./environment.js").SavedState} SavedState
 * @typedef {import("./options.js").Options} Options
 */

/**
 * Connects to the hub at `url`, and reconnects automatically.
 *
 * @param {string | URL} url such as `https://push.example.org`, or relative to the page
 * @param {Options} [options]
 * @returns {Hub}
 */
export function connect(url, options = {}) {
  const { keepAs } = options;
  const environment = {
    openLink: socketTo(String(url)),
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
  const session = options.shareTabs
    ? sharedSession(String(url), environment, options)
    : new Session(environment, options);
  const hub = new Hub(session);
  session.start();
  return hub;
}

/**
 * A session that may use the connection of another tab. The code for this is loaded only here; if it cannot be loaded,
 * the session has its own connection.
 *
 * @param {string} url
 * @param {import("./tabs/tab.js").DirectEnvironment} environment
 * @param {Options} options
 * @returns {Session}
 */
function sharedSession(url, environment, options) {
  const loading = import("./tabs/share.js").then(
    ({ share }) => share(url, environment, options),
    () => ({ ...environment, ...options }),
  );
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
    addEventListener("pageshow", onWake, unwatched);
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
    const { cursor, channels } = JSON.parse(sessionStorage[key]);
    return { cursor: String(cursor), channels: channels.map(String) };
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
    sessionStorage[key] = JSON.stringify(state);
  } catch {
    // sessionStorage is blocked or full: the next page cannot recover, and loads its data again.
  }
}
