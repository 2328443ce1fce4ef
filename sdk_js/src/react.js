import { useEffect, useInsertionEffect, useMemo, useRef, useSyncExternalStore } from "react";

/**
 * Calls `handler` for an event of a channel while the component is there. The channel may be made in the render, and
 * each render may give another handler: the last one is called, and nothing is subscribed to anew.
 *
 * @template {object} Events
 * @template {(keyof Events & string) | "*" | keyof import("./channel.js").Told} Event
 * @param {import("./channel.js").Channel<Events>} channel
 * @param {Event} event
 * @param {import("./channel.js").Handler<Events, Event>} handler
 */
export function useChannel(channel, event, handler) {
  const { hub, name } = channel;
  const latest = useRef(handler);
  // Before any other effect, so that none of them can meet an old handler.
  useInsertionEffect(() => {
    latest.current = handler;
  });
  useEffect(() => {
    const tell = (/** @type {[any, any]} */ ...told) => latest.current(...told);
    return hub.channel(name).on(event, /** @type {any} */ (tell));
  }, [hub, name, event]);
}

/**
 * What a collection has now. Make the collection outside of components, or once with `useState` or `useMemo`.
 *
 * @template {object} Model
 * @param {import("./collection.js").Collection<Model>} collection
 * @returns {import("./collection.js").Snapshot<Model>}
 */
export function useCollection({ subscribe, getSnapshot }) {
  return useSyncExternalStore(subscribe, getSnapshot, getSnapshot);
}

/**
 * Who is in a channel now. The channel may be made in the render.
 *
 * @param {import("./channel.js").Channel<any>} channel
 * @returns {import("./presence.js").Present}
 */
export function usePresence({ hub, name }) {
  const { subscribe, getSnapshot } = useMemo(() => hub.channel(name).presence(), [hub, name]);
  return useSyncExternalStore(subscribe, getSnapshot, getSnapshot);
}
