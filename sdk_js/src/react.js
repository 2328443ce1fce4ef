import { useEffect, useInsertionEffect, useMemo, useRef, useSyncExternalStore } from "react";

/**
 * Calls `handler` for an event of a channel while the component is mounted. The channel may be created in the render,
 * and each render may pass another handler: the latest one is called, without a new subscription.
 *
 * @template {object} Events
 * @template {(keyof Events & string) | "*" | keyof import("./channel_types.js").ChannelEvents} Event
 * @param {import("./hub.js").Channel<Events>} channel
 * @param {Event} event
 * @param {import("./channel_types.js").Handler<Events, Event>} handler
 */
export function useChannel(channel, event, handler) {
  const { hub, name } = channel;
  const latest = useRef(handler);
  // Runs before all other effects, so none of them sees the handler of an earlier render.
  useInsertionEffect(() => {
    latest.current = handler;
  });
  useEffect(() => {
    const listener = (/** @type {[any, any]} */ ...values) => latest.current(...values);
    return hub.channel(name).on(event, /** @type {any} */ (listener));
  }, [hub, name, event]);
}

/**
 * The current snapshot of a collection. Create the collection outside of components, or once with `useState` or
 * `useMemo`.
 *
 * @template {object} Model
 * @param {import("./collection.js").Collection<Model>} collection
 * @returns {import("./collection.js").Snapshot<Model>}
 */
export function useCollection({ subscribe, getSnapshot, getServerSnapshot }) {
  return useSyncExternalStore(subscribe, getSnapshot, getServerSnapshot);
}

/**
 * The current members of a channel. The channel may be created in the render.
 *
 * @param {import("./hub.js").Channel<any>} channel
 * @returns {import("./core/presence_snapshot.js").PresenceSnapshot}
 */
export function usePresence({ hub, name }) {
  const { subscribe, getSnapshot, getServerSnapshot } = useMemo(() => hub.channel(name).presence(), [hub, name]);
  return useSyncExternalStore(subscribe, getSnapshot, getServerSnapshot);
}
