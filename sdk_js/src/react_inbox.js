import { createElement, useEffect, useRef } from "react";
import "./inbox_element.js";

/** @typedef {import("./inbox_element.js").TidingsInbox} TidingsInbox */

/**
 * The element `<tidings-inbox>` as a component: a bell, and a panel with the user's notifications. `onOpen`: a
 * notification was clicked; prevent the event's default to show its page yourself. `onError`: an action failed. All
 * other properties are attributes of the element, such as `theme` or `text-title`.
 *
 * @param {{hub: import("./hub.js").Hub, onOpen?: ((event: CustomEvent) => void) | undefined,
 *   onError?: ((event: CustomEvent) => void) | undefined, [attribute: string]: unknown}} properties
 */
export function Inbox({ hub, onOpen, onError, ...attributes }) {
  const element = useRef(/** @type {TidingsInbox | null} */ (null));
  // An effect, because React 18 would set an attribute.
  useEffect(() => {
    const { current } = element;
    if (current) {
      current.hub = /** @type {any} */ (hub);
    }
    return () => {
      if (current) {
        current.hub = undefined;
      }
    };
  }, [hub]);
  useListener(element, "tidings-open", onOpen);
  useListener(element, "tidings-error", onError);
  return createElement("tidings-inbox", { ...attributes, ref: element });
}

/**
 * @param {{current: EventTarget | null}} element
 * @param {string} name
 * @param {((event: CustomEvent) => void) | undefined} listener
 */
function useListener(element, name, listener) {
  useEffect(() => {
    const { current } = element;
    if (!current || !listener) {
      return undefined;
    }
    const onEvent = /** @type {(event: Event) => void} */ (/** @type {unknown} */ (listener));
    current.addEventListener(name, onEvent);
    return () => current.removeEventListener(name, onEvent);
  }, [element, name, listener]);
}
