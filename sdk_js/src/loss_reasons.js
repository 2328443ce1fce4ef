import { errorFrom } from "./core/error.js";

/** @typedef {import("./core/codes.js").CloseReason} CloseReason */

const PROTOCOL_CODE_MIN = 4000;

/**
 * Notices that the page's Content-Security-Policy blocks connections to `origin`.
 *
 * @param {string} origin
 * @returns {{violation: CloseReason | undefined, stop: () => void}}
 */
export function watchPolicy(origin) {
  const stopped = new AbortController();
  const policy = { violation: /** @type {CloseReason | undefined} */ (undefined), stop: () => stopped.abort() };
  const message = `This page's Content-Security-Policy blocks ${origin}: add it to connect-src.`;
  const onViolation = (/** @type {SecurityPolicyViolationEvent} */ { effectiveDirective, blockedURI, disposition }) => {
    const isBlocked = disposition === "enforce" && effectiveDirective === "connect-src";
    if (isBlocked && blockedURI.replace(/^ws/, "http").startsWith(origin)) {
      policy.violation = { code: "blocked", message };
    }
  };
  globalThis.document?.addEventListener("securitypolicyviolation", onViolation, stopped);
  return policy;
}

/**
 * Why a transport ended: a WebSocket's close frame has the code, and an HTTP response has it in its body.
 *
 * @param {any} context the close event or the request
 * @returns {CloseReason}
 */
export function contextReason(context) {
  const { code: number, reason: code, responseText } = Object(context);
  try {
    // The hub's own error, or Engine.IO's with the hub's in it.
    const body = JSON.parse(responseText);
    return readableReason(body.error ?? body);
  } catch {
    const isHub = number >= PROTOCOL_CODE_MIN && code;
    return isHub ? { number, code, message: `The hub closed the connection: ${code}.` } : { number };
  }
}

/**
 * Why a connection did not open.
 *
 * @param {{data?: object, context?: any}} error
 * @param {string} address the one that was tried
 * @param {boolean} refused whether the hub sent CONNECT_ERROR
 * @returns {CloseReason}
 */
export function connectErrorReason({ data, context }, address, refused) {
  const reason = refused ? closeReason(Object(data)) : contextReason(context);
  if (reason.code && reason.code !== "not_found") {
    return { ...reason, refused: true };
  }
  const { status } = Object(context);
  return {
    ...reason,
    refused: Boolean(reason.code),
    message: status
      ? `${address} is no hub (status ${status}): check its path and the proxy.`
      : `${address} is not reachable: check the hub, TLS and the network.`,
  };
}

/**
 * @param {object} error as the hub sends it
 * @returns {CloseReason}
 */
export function closeReason(error) {
  const { code, message } = errorFrom(error);
  return { code, message };
}

/**
 * @param {{code?: unknown, message?: unknown}} error
 * @returns {CloseReason}
 * @throws {TypeError} it has no code of the hub
 */
function readableReason(error) {
  if (typeof error.code !== "string") {
    throw new TypeError("no code");
  }
  return closeReason(error);
}
