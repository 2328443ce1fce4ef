// The SDK without `import()`: for service workers, which forbid it, and for programs that are one file.
import { connectWith } from "./connect.js";
import * as rows from "./core/rows.js";
import * as inbox from "./inbox.js";
import * as job from "./job.js";
import * as queue from "./kept_queue.js";
import * as presence from "./presence_client.js";
import * as push from "./push.js";
import * as tabs from "./tabs/share.js";

export { TidingsError } from "./core/error.js";

/** @type {import("./parts.js").Parts} */
const BUNDLED_PARTS = {
  rows: async () => rows,
  presence: async () => presence,
  tabs: async () => tabs,
  queue: async () => queue,
  job: async () => job,
  inbox: async () => inbox,
  push: async () => push,
};

/**
 * As `connect` of "tidings".
 *
 * @param {string | URL} url such as `https://push.example.org`, or relative to the page
 * @param {import("./options.js").Options} [options]
 * @returns {import("./hub.js").Hub}
 */
export function connect(url, options = {}) {
  return connectWith(BUNDLED_PARTS, url, options);
}
