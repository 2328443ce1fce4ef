// `/tidings-sw.js`: shows pushes, and opens the page of one that is clicked. A site with a service worker of its own
// imports it there: `importScripts("/tidings-sw.js")`. It ignores pushes and notifications that are not the hub's.
import { loadSubscription, saveSubscription } from "./push_subscription.js";

/**
 * The events and objects of a service worker that this file uses. The types of pages do not have them.
 *
 * @typedef {Event & {waitUntil: (promise: Promise<unknown>) => void}} WorkerEvent
 * @typedef {WorkerEvent & {data: {json: () => any} | null}} PushEvent
 * @typedef {WorkerEvent & {notification: Notification}} NotificationEvent
 * @typedef {WorkerEvent & {oldSubscription?: PushSubscription, newSubscription?: PushSubscription}} ChangeEvent
 * @typedef {{url: string, focus: () => Promise<unknown>}} WindowClient
 */
const worker = /** @type {any} */ (globalThis);
/** @type {ServiceWorkerRegistration} */
const registration = worker.registration;

worker.addEventListener("push", (/** @type {PushEvent} */ event) => {
  const message = messageOf(event);
  if (message) {
    event.waitUntil(show(message));
  }
});

worker.addEventListener("notificationclick", (/** @type {NotificationEvent} */ event) => {
  const { tidings: id, url } = Object(event.notification.data);
  if (id !== undefined) {
    event.notification.close();
    event.waitUntil(Promise.all([open(url), mark("read", id)]));
  }
});

worker.addEventListener("notificationclose", (/** @type {NotificationEvent} */ event) => {
  const { tidings: id } = Object(event.notification.data);
  if (id !== undefined) {
    event.waitUntil(mark("seen", id));
  }
});

worker.addEventListener("pushsubscriptionchange", (/** @type {ChangeEvent} */ event) => {
  event.waitUntil(renew(event));
});

/**
 * @param {PushEvent} event
 * @returns {any} the message, or undefined if it is not the hub's
 */
function messageOf({ data }) {
  try {
    const message = Object(data?.json());
    const texts = [message.id, message.category, message.title];
    return texts.every((text) => typeof text === "string") ? message : undefined;
  } catch {
    // Another sender's: no JSON.
    return undefined;
  }
}

/** @param {any} message */
async function show({ id, title, body = "", icon, tag, url, created_at: timestamp, counts }) {
  if ((await loadSubscription())?.isEnded) {
    // The browser could not end the subscription, and another user may be signed in.
    return;
  }
  const options = { body, icon, tag, timestamp, data: { tidings: id, url } };
  await registration.showNotification(title, /** @type {NotificationOptions} */ (options));
  // The badge of an installed site.
  await worker.navigator.setAppBadge?.(Object(counts).unseen ?? 0).catch(() => {});
}

/**
 * Shows the page of a notification: one that is open, or else a new one.
 *
 * @param {string} [url]
 */
async function open(url = "./") {
  const target = new URL(url, registration.scope);
  if (!/^https?:$/u.test(target.protocol)) {
    return;
  }
  /** @type {WindowClient[]} */
  const pages = await worker.clients.matchAll({ type: "window", includeUncontrolled: true });
  const page = pages.find((client) => client.url.split("#")[0] === target.href.split("#")[0]);
  await (page ? page.focus() : worker.clients.openWindow(target.href));
}

/**
 * @param {"seen" | "read"} action
 * @param {string} notificationId
 */
async function mark(action, notificationId) {
  const saved = await loadSubscription();
  if (saved && !saved.isEnded) {
    const { id, key } = saved;
    await post(saved, "mark", { id, key, action, ids: [notificationId] });
  }
}

/** @param {ChangeEvent} event the browser has replaced the subscription, or only ended it */
async function renew({ newSubscription }) {
  const saved = await loadSubscription();
  if (!saved || saved.isEnded) {
    return;
  }
  const { id, key, publicKey } = saved;
  const applicationServerKey = publicKey;
  const subscription =
    newSubscription ?? (await registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey }));
  if (await post(saved, "renew", { id, key, subscription: subscription.toJSON() })) {
    await saveSubscription({ ...saved, endpoint: subscription.endpoint });
  }
}

/**
 * @param {{url: string}} saved
 * @param {string} action
 * @param {object} body
 * @returns {Promise<boolean>} whether the hub did it. If not, a page of the site sends it at its next visit
 */
async function post({ url }, action, body) {
  const headers = { "Content-Type": "application/json" };
  const request = { method: "POST", headers, body: JSON.stringify(body), keepalive: true };
  const response = await fetch(new URL(`/inbox/push-subscriptions/${action}`, url), request).catch(() => undefined);
  return response?.ok ?? false;
}
