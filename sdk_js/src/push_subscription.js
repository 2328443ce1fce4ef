// The push subscription of this browser, in a place that its pages and its service worker share.
import { closeAll } from "./shown_notifications.js";

const CACHE = "tidings-push";
const ADDRESS = "/tidings-push-subscription";

/**
 * `id` and `key`: with them the service worker, which has no token, marks and renews. `url`: of the hub. `user`: who
 * enabled it. `publicKey`: the hub's, for which it was made. `scope`: of the registration. `isEnded`: nothing of it is
 * shown any more, although the browser may have it still.
 *
 * @typedef {object} SavedSubscription
 * @property {string} id
 * @property {string} key
 * @property {string} url
 * @property {string} endpoint
 * @property {string} publicKey
 * @property {string | undefined} user
 * @property {number} savedMs
 * @property {string | undefined} [scope]
 * @property {boolean} [isEnded]
 */

/** @returns {Promise<SavedSubscription | undefined>} */
export async function loadSubscription() {
  const cache = await caches.open(CACHE);
  const response = await cache.match(ADDRESS);
  return response?.json();
}

/** @param {SavedSubscription} subscription */
export async function saveSubscription(subscription) {
  const cache = await caches.open(CACHE);
  await cache.put(ADDRESS, new Response(JSON.stringify(subscription)));
}

/**
 * Ends the subscription of a registration. If the browser cannot end it, its pushes are shown no more.
 *
 * @param {ServiceWorkerRegistration | undefined} registration
 * @returns {Promise<PushSubscription | null | undefined>} what it was
 */
export async function endSubscription(registration) {
  const saved = await loadSubscription();
  if (saved) {
    await saveSubscription({ ...saved, isEnded: true });
  }
  const subscription = await registration?.pushManager.getSubscription();
  await closeAll(registration);
  await subscription?.unsubscribe();
  await caches.delete(CACHE);
  return subscription;
}

/**
 * @param {string} url of a hub, as a page writes it
 * @returns {string} the same for all ways to write it, and for requests with `fetch`
 */
export function addressOf(url) {
  const { origin, pathname } = new URL(url, location.href);
  return origin.replace(/^ws/u, "http") + pathname.replace(/\/*$/u, "/");
}

/**
 * Ends the subscription of another user of this hub: the hub's user must not get its pushes, nor see what was shown.
 *
 * @param {{user: string | undefined}} hub
 * @param {string} url of the hub, perhaps relative to the page
 */
export async function endForeign(hub, url) {
  const saved = await loadSubscription();
  const isOfHub = saved && addressOf(saved.url) === addressOf(url);
  if (isOfHub && hub.user !== undefined && (saved.isEnded || saved.user !== hub.user)) {
    await endSubscription(await navigator.serviceWorker.getRegistration(saved.scope));
  }
}
