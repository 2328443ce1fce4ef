import { io } from "socket.io-client";
import { errorFrom } from "./core/error.js";

/**
 * @typedef {import("./core/codes.js").End} End
 * @typedef {import("./core/course.js").Transport} Transport
 */

/**
 * One connection, from its opening to its end.
 *
 * @typedef {object} Link
 * @property {(event: string, body: object, timeoutMs: number) => Promise<unknown>} ask
 *   the hub's acknowledgement; rejects when there is none
 * @property {() => void} close ends it; `lost` is not called then
 */

/**
 * @typedef {object} LinkListener
 * @property {() => object} auth what CONNECT says; asked for as soon as the transport is open
 * @property {(event: string, values: unknown[]) => void} event
 * @property {(name: Transport) => void} transport
 * @property {(end: End) => void} lost at most once
 */

/** @typedef {(transports: Transport[], listener: LinkListener) => Link | Promise<Link>} OpenLink */

const ANSWER_MS = 10_000;
/** What stands for an acknowledgement that did not come, in time or before the end: the hub would say the same. */
export const NO_ANSWER = { error: { code: "timeout", message: "No answer in time." } };

/**
 * The hub's acknowledgement, or `NO_ANSWER`.
 *
 * @param {Link} link
 * @param {string} event
 * @param {object} body
 * @returns {Promise<any>}
 */
export async function ask(link, event, body) {
  try {
    return Object(await link.ask(event, body, ANSWER_MS));
  } catch {
    return NO_ANSWER;
  }
}

/**
 * What connects to the hub at `url` with socket.io-client, whose own reconnecting is off.
 *
 * @param {string} url where the hub is; a path before `/socket.io/` is kept
 * @returns {(transports: Transport[], listener: LinkListener) => Link}
 */
export function socketTo(url) {
  const at = new URL(url, globalThis.location?.href);
  const path = at.pathname.replace(/\/*$/, "/socket.io/");
  return (transports, listener) => open(at.origin, path, transports, listener);
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
    // The caller has a shorter one.
    timeout: 60_000,
    auth: (give) => give(listener.auth()),
  });
  const manager = socket.io;
  /** @type {End} what the hub said before it closed */
  let said = {};
  let over = false;
  let refused = false;
  const close = () => {
    over = true;
    socket.offAny();
    socket.disconnect();
  };
  const lost = (/** @type {End} */ end) => {
    if (!over) {
      close();
      listener.lost({ ...end, ...said });
    }
  };
  manager.on("open", () => {
    const tell = () => !over && listener.transport(/** @type {Transport} */ (manager.engine.transport.name));
    tell();
    manager.engine.on("upgrade", tell);
  });
  /** @type {(...said: any[]) => void} */
  const hear = (event, data, channel, cursor, ack) => {
    if (event === "tidings:close") {
      said = saidBy(Object(data));
    }
    // A hostile hub may say a number, or nothing.
    listener.event(String(event), [data, channel, cursor]);
    // socket.io-client gives it with what is to be acknowledged: whoever listens has been told by now.
    if (typeof ack === "function") {
      ack();
    }
  };
  socket.onAny(hear);
  socket.on("disconnect", (message, details) => {
    refused ||= message === "io server disconnect";
    // Of one long-polling answer the client handles the end first, and what came before it only in the next tick.
    setTimeout(() => {
      for (const packet of over ? [] : socket.receiveBuffer) {
        hear(...packet);
      }
      lost({ number: /** @type {any} */ (details)?.context?.code, refused, message });
    });
  });
  socket.on("connect_error", (error) => lost(endOf(error, !socket.active)));
  return { ask: (event, body, timeoutMs) => socket.timeout(timeoutMs).emitWithAck(event, body), close };
}

/**
 * @param {Error & {data?: any, context?: any}} error
 * @param {boolean} refused the hub answered CONNECT_ERROR
 * @returns {End}
 */
function endOf(error, refused) {
  if (refused) {
    return { refused, ...saidBy(Object(error.data)) };
  }
  try {
    // A request that the hub refused has its reason in the body.
    return { refused: true, ...saidBy(JSON.parse(error.context.responseText).error) };
  } catch {
    return { message: error.message };
  }
}

/**
 * @param {object} error as the hub writes one
 * @returns {End}
 */
function saidBy(error) {
  const { code, message } = errorFrom(error);
  return { code, message };
}
