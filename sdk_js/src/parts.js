import { TidingsError } from "./core/error.js";

/**
 * The parts of the SDK that not every page needs.
 *
 * @typedef {object} Parts
 * @property {() => Promise<typeof import("./core/rows.js")>} rows
 * @property {() => Promise<typeof import("./presence_client.js")>} presence
 * @property {() => Promise<typeof import("./tabs/share.js")>} tabs
 * @property {() => Promise<typeof import("./kept_queue.js")>} queue
 * @property {() => Promise<typeof import("./job.js")>} job
 * @property {() => Promise<typeof import("./inbox.js")>} inbox
 * @property {() => Promise<typeof import("./push.js")>} push
 */

/** @type {Parts} loads each part on its first use */
export const LOADED_PARTS = {
  rows: () => import("./core/rows.js").catch(explain),
  presence: () => import("./presence_client.js").catch(explain),
  tabs: () => import("./tabs/share.js"),
  queue: () => import("./kept_queue.js").catch(explain),
  job: () => import("./job.js").catch(explain),
  inbox: () => import("./inbox.js").catch(explain),
  push: () => import("./push.js").catch(explain),
};

/**
 * @param {unknown} cause
 * @returns {never}
 */
function explain(cause) {
  if ("ServiceWorkerGlobalScope" in globalThis) {
    const text = 'Service workers cannot load parts: import "tidings/static".';
    throw new TidingsError("not_loaded", text, { cause });
  }
  throw cause;
}
