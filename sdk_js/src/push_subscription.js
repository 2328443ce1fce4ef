// The push subscription of this browser, in a place that its pages and its service worker share.

const CACHE = "tidings-push";
const ADDRESS = "/tidings-push-subscription";

/**
 * `id` and `key`: with them the service worker, which has no token, marks and renews. `url`: of the hub. `user`: who
 * enabled it. `publicKey`: the hub's, for which it was made.
 *
 * @typedef {object} SavedSubscription
 * @property {string} id
 * @property {string} key
 * @property {string} url
 * @property {string} endpoint
 * @property {string} publicKey
 * @property {string | undefined} user
 * @property {number} savedMs
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

export async function forgetSubscription() {
  await caches.delete(CACHE);
}
