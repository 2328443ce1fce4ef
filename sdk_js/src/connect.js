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
  const session = new Session(
    {
      open: socketTo(String(url)),
      nowMs: () => performance.now(),
      after: (tell, inMs) => {
        const timer = setTimeout(tell, inMs);
        return () => clearTimeout(timer);
      },
      random: Math.random,
      watch,
      kept: keepAs === undefined ? { channels: [] } : load(keepAs),
      keep: (kept) => keepAs !== undefined && save(keepAs, kept),
    },
    options,
  );
  const hub = new Hub(session);
  session.begin();
  return hub;
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
