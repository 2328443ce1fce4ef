import { io } from "socket.io-client";
import { errorFrom } from "./core/error.js";

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
 * @param {string} url where the hub is; a path before `/socket.io/` is kept
 * @returns {(transports: Transport[], listener: LinkListener) => Link}
 */
export function socketTo(url) {
  const target = new URL(url, globalThis.location?.href);
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
  const socket = io(origin, {
    path,
    transports,
    tryAllTransports: true,
    reconnection: false,
    forceNew: true,
    // The session has a shorter time limit.
    timeout: 60_000,
    auth: (send) => send(listener.auth()),
  });
  const manager = socket.io;
  /** @type {CloseReason} the reason that the hub sent before it closed */
  let sentReason = {};
  let isClosed = false;
  let refused = false;
  const close = () => {
    isClosed = true;
    socket.offAny();
    socket.disconnect();
  };
  const onLost = (/** @type {CloseReason} */ reason) => {
    if (!isClosed) {
      close();
      listener.onLost({ ...reason, ...sentReason });
    }
  };
  manager.on("open", () => {
    const onTransport = () =>
      !isClosed && listener.onTransport(/** @type {Transport} */ (manager.engine.transport.name));
    onTransport();
    manager.engine.on("upgrade", onTransport);
  });
  /** @type {(...packet: any[]) => void} */
  const onPacket = (event, data, channel, cursor, ack) => {
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
      onLost({ number: /** @type {any} */ (details)?.context?.code, refused, message });
    });
  });
  socket.on("connect_error", (error) => onLost(connectErrorReason(error, !socket.active)));
  return { request: (event, body, timeoutMs) => socket.timeout(timeoutMs).emitWithAck(event, body), close };
}

/**
 * @param {Error & {data?: any, context?: any}} error
 * @param {boolean} refused whether the hub sent CONNECT_ERROR
 * @returns {CloseReason}
 */
function connectErrorReason(error, refused) {
  if (refused) {
    return { refused, ...closeReason(Object(error.data)) };
  }
  try {
    // A refused HTTP request has the reason in its body.
    return { refused: true, ...closeReason(JSON.parse(error.context.responseText).error) };
  } catch {
    return { message: error.message };
  }
}

/**
 * @param {object} error as the hub sends it
 * @returns {CloseReason}
 */
function closeReason(error) {
  const { code, message } = errorFrom(error);
  return { code, message };
}
