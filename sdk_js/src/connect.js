import { Hub } from "./hub.js";
import { Session } from "./session.js";
import { socketTo } from "./socket.js";

/** @typedef {import("./world.js").Kept} Kept */

/**
 * Connects to the hub at `url`, and comes back by itself.
 *
 * @param {string | URL} url such as `https://push.example.org`, or relative to the page
 * @param {import("./hub.js").Options} [options]
 * @returns {Hub}
 */
export function connect(url, options = {}) {
  const { keepAs } = options;
  const world = {
    open: socketTo(String(url)),
    nowMs: () => performance.now(),
    after: (/** @type {() => void} */ tell, /** @type {number} */ inMs) => {
      const timer = setTimeout(tell, inMs);
      return () => clearTimeout(timer);
    },
    random: Math.random,
    watch,
    kept: keepAs === undefined ? { channels: [] } : load(keepAs),
    keep: (/** @type {Kept} */ kept) => keepAs !== undefined && save(keepAs, kept),
  };
  const session = options.shareTabs ? shared(String(url), world, options) : new Session(world, options);
  const hub = new Hub(session);
  session.begin();
  return hub;
}

/**
 * A session whose connection may be another tab's. What that takes is loaded only here; where it cannot be loaded, the
 * connection is its own.
 *
 * @param {string} url
 * @param {import("./tabs/tab.js").DirectWorld} world
 * @param {import("./hub.js").Options} options
 * @returns {Session}
 */
function shared(url, world, options) {
  const loaded = import("./tabs/share.js").then(
    ({ share }) => share(url, world, options),
    () => ({ ...world, ...options }),
  );
  return new Session(
    {
      ...world,
      open: async (...of) => (await loaded).open(...of),
      watch: (...of) => {
        const unwatch = loaded.then((tab) => tab.watch(...of));
        return () => void unwatch.then((end) => end());
      },
    },
    { ...options, getToken: options.getToken && (async () => (await loaded).getToken?.()) },
  );
}

/**
 * @param {() => void} wake
 * @param {() => void} leave
 * @returns {() => void}
 */
function watch(wake, leave) {
  const page = globalThis.document;
  const over = new AbortController();
  if (page !== undefined) {
    addEventListener("online", wake, over);
    addEventListener("pageshow", wake, over);
    addEventListener("pagehide", leave, over);
    page.addEventListener("visibilitychange", () => page.visibilityState === "visible" && wake(), over);
  }
  return () => over.abort();
}

/**
 * @param {string} name
 * @returns {Kept}
 */
function load(name) {
  try {
    const { cursor, channels } = JSON.parse(sessionStorage[name]);
    return { cursor: String(cursor), channels: channels.map(String) };
  } catch {
    // Nothing there, forbidden here, or written by something else.
    return { channels: [] };
  }
}

/**
 * @param {string} name
 * @param {Kept} kept
 */
function save(name, kept) {
  try {
    sessionStorage[name] = JSON.stringify(kept);
  } catch {
    // Forbidden here, or full: the next page loads its data anew.
  }
}
