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
  "replaced",
  "connect_timeout",
]);

/** Names and close codes after which a client reconnects with a new token: a hub or a backend ended the old one. */
/** @type {Set<unknown>} */
const NEEDS_NEW_TOKEN = new Set(["expired", "disconnected", 4008, 4009]);

const RETRYABLE_MAX = 4499;
const PROTOCOL_CODE_MIN = 4000;

/** Codes after which the SDK reconnects at once, and the application has nothing to do. */
const HARMLESS_CODES = new Set(["draining", "unavailable", "ping_timeout"]);

/**
 * Why a connection ended. `code`: the name that the hub sent, or one of the SDK's; `number`: the WebSocket close code;
 * `refused`: the hub sent Socket.IO's DISCONNECT or CONNECT_ERROR, after which a stock client does not reconnect;
 * `isHarmless`: the SDK itself ended it, and connects again.
 *
 * @typedef {{code?: string | undefined, number?: number | undefined, refused?: boolean, message?: string | undefined,
 *   cause?: unknown, isHarmless?: boolean}} CloseReason
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

/**
 * Whether this is an error for the application: an attempt failed, or the hub closed the connection for a reason.
 *
 * @param {CloseReason} reason
 * @param {boolean} wasConnected
 * @returns {boolean}
 */
export function isFailure(reason, wasConnected) {
  const { code, isHarmless } = reason;
  return !isHarmless && (!wasConnected || !isRetryable(reason) || (code !== undefined && !HARMLESS_CODES.has(code)));
}

/**
 * Whether the token of this connection must not be used again.
 *
 * @param {CloseReason} reason
 * @returns {boolean}
 */
export function needsNewToken(reason) {
  return !isRetryable(reason) || NEEDS_NEW_TOKEN.has(reason.code) || NEEDS_NEW_TOKEN.has(reason.number);
}
