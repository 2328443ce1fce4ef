import { io } from "socket.io-client";
import { requestBytes } from "./core/json.js";
import { closeReason, connectErrorReason, contextReason, watchPolicy } from "./loss_reasons.js";

/**
 * @typedef {import("./core/codes.js").CloseReason} CloseReason
 * @typedef {import("./core/reconnect.js").Transport} Transport
 */

/**
 * One connection to the hub, from opening to closing.
 *
 * @typedef {object} Link
 * @property {(event: string, body: object, timeoutMs: number) => Promise<unknown>} request
 *   the hub's acknowledgement; rejects if there is none
 * @property {() => void} close closes the link, without a call of `onLost`
 */

/**
 * @typedef {object} LinkListener
 * @property {() => object} auth returns the payload of CONNECT; called as soon as the transport is open
 * @property {(event: string, values: unknown[]) => void} onEvent
 * @property {(name: Transport) => void} onTransport
 * @property {(reason: CloseReason) => void} onLost called at most once
 */

/** @typedef {(transports: Transport[], listener: LinkListener) => Link | Promise<Link>} OpenLink */

const RESPONSE_TIMEOUT_MS = 10_000;
// The session reconnects, and has a shorter time limit.
const OPTIONS = { tryAllTransports: true, reconnection: false, forceNew: true, timeout: 60_000 };
/** The response if no acknowledgement arrives before the time limit or the close, in the form of a hub's error. */
export const NO_RESPONSE = { error: { code: "timeout", message: "No answer in time." } };

/**
 * The hub's acknowledgement, or `NO_RESPONSE`.
 *
 * @param {Link} link
 * @param {string} event
 * @param {object} body
 * @returns {Promise<any>}
 */
export async function request(link, event, body) {
  try {
    return Object(await link.request(event, body, RESPONSE_TIMEOUT_MS));
  } catch {
    return NO_RESPONSE;
  }
}

/**
 * A function that connects to the hub at `url` with socket.io-client. Its own reconnecting is off.
 *
 * @param {string | URL} url where the hub is; a path before `/socket.io/` is kept
 * @returns {(transports: Transport[], listener: LinkListener) => Link}
 * @throws {TypeError} `url` is no address of a hub
 */
export function socketTo(url) {
  const target = new URL(url, globalThis.location?.href);
  // React Native's URL takes any text.
  if (!/^(http|ws)/.test(target.origin)) {
    throw new TypeError(`${target.protocol} is not HTTP.`);
  }
  const path = target.pathname.replace(/\/*$/, "/socket.io/");
  return (transports, listener) => open(target.origin, path, transports, listener);
}

/**
 * @param {string} origin
 * @param {string} path
 * @param {Transport[]} transports
 * @param {LinkListener} listener
 * @returns {Link}
 */
function open(origin, path, transports, listener) {
  const socket = io(origin, { ...OPTIONS, path, transports, auth: (send) => send(listener.auth()) });
  const manager = socket.io;
  const policy = watchPolicy(origin);
  let sentReason = /** @type {CloseReason} the reason that the hub sent before it closed */ ({});
  let isClosed = false;
  let refused = false;
  const close = () => {
    isClosed = true;
    policy.stop();
    socket.offAny();
    socket.disconnect();
  };
  const onLost = (/** @type {CloseReason} */ reason) => {
    if (!isClosed) {
      close();
      listener.onLost({ ...reason, ...sentReason });
    }
  };
  const onTransport = () => !isClosed && listener.onTransport(/** @type {Transport} */ (manager.engine.transport.name));
  manager.on("open", () => {
    onTransport();
    manager.engine.on("upgrade", onTransport);
  });
  const onPacket = (/** @type {any[]} */ ...[event, data, channel, cursor, ack]) => {
    if (event === "tidings:close") {
      sentReason = closeReason(Object(data));
    }
    // A hostile hub may send a number or nothing as the event's name.
    listener.onEvent(String(event), [data, channel, cursor]);
    // socket.io-client passes this function if the hub wants an acknowledgement. All listeners have run by now.
    if (typeof ack === "function") {
      ack();
    }
  };
  socket.onAny(onPacket);
  socket.on("disconnect", (message, details) => {
    refused ||= message === "io server disconnect";
    // If a long-polling response ends with the close, socket.io-client handles the close before the packets in front of
    // it, which it handles in the next tick.
    setTimeout(() => {
      for (const packet of isClosed ? [] : socket.receiveBuffer) {
        onPacket(...packet);
      }
      onLost({ refused, message: `The connection ended: ${message}.`, ...contextReason(Object(details).context) });
    });
  });
  socket.on("connect_error", (error) => {
    const reason = connectErrorReason(error, origin + path, !socket.active);
    // The browser reports in another task that the page's policy blocked the connection.
    setTimeout(() => onLost({ ...reason, ...(reason.code ? {} : policy.violation) }));
  });
  return { request: boundedRequests(socket), close };
}

/**
 * @param {import("socket.io-client").Socket} socket before its handshake
 * @returns {Link["request"]} answers `too_large` instead of the hub, which would close this connection, and each later
 *   one because of the repetition
 */
function boundedRequests(socket) {
  let maxBytes = Infinity;
  socket.io.engine.on("handshake", (/** @type {{maxPayload?: number} | null} */ handshake) => {
    maxBytes = handshake?.maxPayload ?? Infinity;
  });
  return async (event, body, timeoutMs) =>
    requestBytes(event, body) > maxBytes
      ? { error: { code: "too_large", message: `A request has at most ${maxBytes} bytes: send less at once.` } }
      : socket.timeout(timeoutMs).emitWithAck(event, body);
}
