/**
 * Codes that tell a client to come back, by name (PROTOCOL.md section 4; a test compares them). All others do not.
 */
export const COME_BACK = new Set([
  "unavailable",
  "timeout",
  "draining",
  "full",
  "slow",
  "too_fast",
  "internal",
  "ping_timeout",
  "expired",
  "disconnected",
  "too_many_connections",
]);

const COME_BACK_MAX = 4499;
const OF_THE_TABLE_MIN = 4000;

/**
 * How a connection ended. `code`: the name that the hub said; `number`: of the WebSocket's close; `refused`: the hub
 * sent Socket.IO's DISCONNECT or CONNECT_ERROR, after which a stock client would stay away.
 *
 * @typedef {{code?: string | undefined, number?: number | undefined, refused?: boolean, message?: string |
 *   undefined}} End
 */

/**
 * Whether to connect again after this end.
 *
 * A known code decides, then the number's range; a code of a later version is judged by how the hub ended it.
 *
 * @param {End} end
 * @returns {boolean}
 */
export function comesBack({ code, number = 0, refused }) {
  if (code !== undefined && COME_BACK.has(code)) {
    return true;
  }
  return number >= OF_THE_TABLE_MIN ? number <= COME_BACK_MAX : !refused;
}
