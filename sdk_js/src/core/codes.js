/**
 * Names of the codes after which a client reconnects (PROTOCOL.md section 4; a test compares the two lists). After any
 * other code it stays closed.
 */
export const RETRYABLE_CODES = new Set([
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

const RETRYABLE_MAX = 4499;
const PROTOCOL_CODE_MIN = 4000;

/**
 * Why a connection ended. `code`: the name that the hub sent; `number`: the WebSocket close code; `refused`: the hub
 * sent Socket.IO's DISCONNECT or CONNECT_ERROR, after which a stock client does not reconnect.
 *
 * @typedef {{code?: string | undefined, number?: number | undefined, refused?: boolean, message?: string |
 *   undefined}} CloseReason
 */

/**
 * Whether to reconnect after this close.
 *
 * A known code decides first, then the range of the close code. For an unknown code, which a later version may send,
 * `refused` decides.
 *
 * @param {CloseReason} reason
 * @returns {boolean}
 */
export function isRetryable({ code, number = 0, refused }) {
  if (code && RETRYABLE_CODES.has(code)) {
    return true;
  }
  return number >= PROTOCOL_CODE_MIN ? number <= RETRYABLE_MAX : !refused;
}
