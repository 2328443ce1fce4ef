// The notifications that the service worker shows. A page of the site closes those that were seen elsewhere.

/**
 * @param {ServiceWorkerRegistration | undefined} registration
 * @param {any} data of `tidings:inbox`: what was marked or deleted
 */
export async function closeMarked(registration, { changed = [], all }) {
  if (all) {
    // Ids sort by time.
    await close(registration, (id) => all.before === undefined || id <= all.before);
  }
  const done = changed.filter((/** @type {any} */ item) => item.deleted || item.seen_at || item.archived_at);
  await closeIds(registration, done.map((/** @type {any} */ { id }) => id));
}

/**
 * @param {ServiceWorkerRegistration | undefined} registration
 * @param {string[]} ids
 */
export async function closeIds(registration, ids) {
  await (ids.length > 0 && close(registration, (id) => ids.includes(id)));
}

/** @param {ServiceWorkerRegistration | undefined} registration */
export async function closeAll(registration) {
  await close(registration, () => true);
  await /** @type {any} */ (navigator).clearAppBadge?.();
}

/**
 * @param {ServiceWorkerRegistration | undefined} registration
 * @param {(id: string) => boolean} isDone
 */
async function close(registration, isDone) {
  for (const shown of (await registration?.getNotifications()) ?? []) {
    const { tidings: id } = Object(shown.data);
    if (id !== undefined && isDone(id)) {
      shown.close();
    }
  }
}
