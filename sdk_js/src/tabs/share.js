import { Tab } from "./tab.js";

/**
 * @typedef {import("../options.js").Options} Options
 * @typedef {import("../socket.js").OpenLink} OpenLink
 * @typedef {import("./tab.js").DirectEnvironment} DirectEnvironment
 * @typedef {Pick<DirectEnvironment, "watch"> & Pick<Options, "getToken"> & {openLink: OpenLink}} SharedConnection
 */

/** The version of the messages between tabs. Pages with different versions do not share a connection. */
const VERSION = 1;

/**
 * How a session connects if its tab may share a connection with others. If the browser does not support this, the
 * result connects directly.
 *
 * @param {string | URL} url
 * @param {DirectEnvironment} environment
 * @param {Options} options
 * @returns {SharedConnection}
 */
export function share(url, environment, options) {
  const { shareTabs, getToken } = options;
  const group = `tidings ${VERSION} ${new URL(url, globalThis.location?.href)} ${shareTabs}`;
  const locks = globalThis.navigator?.locks;
  try {
    // Without TLS, both APIs are missing. A browser that blocks storage for this site throws.
    const channel = (/** @type {string} */ name) => new BroadcastChannel(name);
    channel(group).close();
    if (locks !== undefined) {
      const watch = (/** @type {[() => void, () => void]} */ ...args) => watchFrozen(environment, ...args);
      return new Tab({ locks, channel }, group, { ...environment, watch }, getToken);
    }
  } catch {
    // Each tab has its own connection.
  }
  return { ...environment, ...(getToken && { getToken }) };
}

/**
 * Watches the page, and also calls `onLeave` when the browser freezes it, and `onWake` when it resumes.
 *
 * @param {DirectEnvironment} environment
 * @param {() => void} onWake
 * @param {() => void} onLeave
 * @returns {() => void}
 */
function watchFrozen(environment, onWake, onLeave) {
  const unwatch = environment.watch(onWake, onLeave);
  const unwatched = new AbortController();
  globalThis.document?.addEventListener("freeze", onLeave, unwatched);
  globalThis.document?.addEventListener("resume", onWake, unwatched);
  return () => {
    unwatched.abort();
    unwatch();
  };
}
