import { Tab } from "./tab.js";

/**
 * @typedef {import("../hub.js").Options} Options
 * @typedef {import("./tab.js").DirectWorld} DirectWorld
 */

/** A page of another version of this talk has a connection of its own. */
const VERSION = 1;

/**
 * How a session connects whose tab may share one connection with others; as it would without, where a browser cannot.
 *
 * @param {string} url
 * @param {DirectWorld} world
 * @param {Options} options
 * @returns {Pick<DirectWorld, "watch"> & Pick<Options, "getToken"> & {open: import("../socket.js").OpenLink}}
 */
export function share(url, world, options) {
  const { shareTabs, getToken } = options;
  const name = `tidings ${VERSION} ${new URL(url, globalThis.location?.href)} ${shareTabs}`;
  const locks = globalThis.navigator?.locks;
  try {
    // Neither is there without TLS, and a browser that keeps nothing for this site throws.
    const channel = (/** @type {string} */ of) => new BroadcastChannel(of);
    channel(name).close();
    if (locks !== undefined) {
      return new Tab({ locks, channel }, name, { ...world, watch: (...of) => watch(world, ...of) }, getToken);
    }
  } catch {
    // Then each tab has its own.
  }
  return { ...world, ...(getToken && { getToken }) };
}

/**
 * A page that the browser freezes leaves as well, and comes back when it goes on.
 *
 * @param {DirectWorld} world
 * @param {() => void} wake
 * @param {() => void} leave
 * @returns {() => void}
 */
function watch(world, wake, leave) {
  const unwatch = world.watch(wake, leave);
  const over = new AbortController();
  globalThis.document?.addEventListener("freeze", leave, over);
  globalThis.document?.addEventListener("resume", wake, over);
  return () => {
    over.abort();
    unwatch();
  };
}
