import { TidingsError } from "./core/error.js";

// Chromium waits without end for a push service that the network does not let it reach.
const SUBSCRIBE_MAX_MS = 30_000;

/**
 * Subscribes this browser at its push service. A subscription that comes too late is not used.
 *
 * @param {PushManager} manager
 * @param {string} publicKey
 * @param {import("./timers.js").SetTimer} setTimer
 * @returns {Promise<PushSubscription>} rejects with the browser's error, or with a TidingsError `timeout`
 */
export function subscribeAt(manager, publicKey, setTimer) {
  return new Promise((resolve, reject) => {
    const message = "The browser's push service gives no answer. Check whether the network or the browser blocks it.";
    const cancel = setTimer(() => reject(new TidingsError("timeout", message)), SUBSCRIBE_MAX_MS);
    void manager
      .subscribe({ userVisibleOnly: true, applicationServerKey: publicKey })
      .then(resolve, reject)
      .finally(cancel);
  });
}
