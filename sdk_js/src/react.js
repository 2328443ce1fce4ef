import { useEffect, useInsertionEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
import { NO_INBOX } from "./no_inbox.js";

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

const getNothing = () => NO_INBOX;
const ignore = () => () => {};

/** @typedef {{of?: import("./hub.js").Hub, inbox?: import("./inbox.js").Inbox, error?: any}} LoadedInbox */

/** @type {LoadedInbox} `of`: the hub */
const NOT_LOADED = {};

/**
 * The current snapshot of the user's inbox, or of the part of it that the options name, and the inbox itself for its
 * actions, such as `inbox?.markRead(ids)`. It is undefined until its code is loaded. `retry()` loads again what failed,
 * the code as well. The hub may not be created in the render; the options may.
 *
 * @param {import("./hub.js").Hub} hub
 * @param {import("./inbox_types.js").InboxOptions} [options]
 * @returns {import("./inbox_types.js").InboxSnapshot & {inbox: import("./inbox.js").Inbox | undefined,
 *   retry: () => void}}
 */
export function useInbox(hub, { category, archived, unread, limit } = {}) {
  const [loaded, setLoaded] = useState(NOT_LOADED);
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    /** @type {import("./inbox.js").Inbox | undefined} */
    let opened;
    let isGone = false;
    const onOpened = (/** @type {import("./inbox.js").Inbox} */ inbox) => {
      opened = inbox;
      if (isGone) {
        opened.close();
      } else {
        setLoaded({ of: hub, inbox });
      }
    };
    setLoaded(NOT_LOADED);
    hub.inbox({ category, archived, unread, limit }).then(onOpened, (error) => setLoaded({ of: hub, error }));
    return () => {
      isGone = true;
      opened?.close();
      setLoaded(NOT_LOADED);
    };
  }, [hub, category, archived, unread, limit, attempt]);
  // In the first render with another hub this is still the inbox of the last one, perhaps of another user.
  const { inbox, error } = loaded.of === hub ? loaded : NOT_LOADED;
  const snapshot = useSyncExternalStore(inbox?.subscribe ?? ignore, inbox?.getSnapshot ?? getNothing, getNothing);
  const retry = () => void (inbox ? inbox.retry() : setAttempt(attempt + 1));
  return { ...snapshot, ...(error && { state: "failed", error }), inbox, retry };
}
