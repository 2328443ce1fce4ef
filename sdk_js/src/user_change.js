import { TidingsError } from "./core/error.js";
import { endRecovery } from "./core/subscriptions.js";

/**
 * What it needs of the session.
 *
 * @typedef {object} UserSession
 * @property {string | undefined} user that of `ready`; undefined once the hub is closed
 * @property {import("./core/subscriptions.js").Subscriptions} channels
 * @property {{setUser: (user: string | undefined) => void}} outbox
 * @property {{update: () => void} | undefined} presenceClient
 * @property {import("./core/listeners.js").Listeners} listeners
 */

/**
 * The hub has named the user of a connection. If it is another one than before: its requests are rejected, nothing of
 * the last one counts as recovered, and lists and members show nothing of that user, whatever the hub answers now. Jobs
 * of that user end (`user`, which is no event of the hub's own listeners).
 *
 * @param {UserSession} session
 * @param {any} ready `tidings:ready`, changed in place
 * @param {string | undefined} lastUser undefined: there was none
 */
export function applyUser(session, ready, lastUser = ready.user) {
  const { channels, listeners, outbox, presenceClient } = session;
  outbox.setUser(ready.user);
  if (ready.user !== lastUser) {
    [ready.channels, ready.presence].forEach(endRecovery);
    const error = new TidingsError("closed", "Another user signed in.");
    listeners.emit("user", error);
    channels.onLost(error);
    presenceClient?.update();
    // A listener may have closed the hub.
    void (session.user === ready.user && channels.onLost());
  }
}
