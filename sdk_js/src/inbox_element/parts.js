// What the tabs of the panel show besides the inbox itself.

/**
 * @typedef {import("./panel.js").Snapshot} Snapshot
 * @typedef {import("./panel.js").Tab} Tab
 * @typedef {import("./store.js").InboxPart} InboxPart
 * @typedef {import("./store.js").InboxStore} InboxStore
 */

const OPTIONS = { unread: { unread: true }, archived: { archived: true } };

/** The parts of one inbox, each opened when its tab is selected. */
export class Parts {
  /** @type {Map<Tab, {store: InboxPart, unfollow: () => void}>} */
  #parts = new Map();
  #onChange;

  /** @param {() => void} onChange */
  constructor(onChange) {
    this.#onChange = onChange;
  }

  /**
   * @param {InboxStore | undefined} inbox
   * @param {Tab} tab
   * @returns {InboxStore | undefined} what the tab shows
   */
  store(inbox, tab) {
    if (tab === "all" || !inbox?.part) {
      return inbox;
    }
    const known = this.#parts.get(tab);
    if (known) {
      return known.store;
    }
    const store = inbox.part(OPTIONS[tab]);
    // A store calls a new listener at once, or only later.
    let isNew = true;
    const unfollow = store.subscribe(() => isNew || this.#onChange());
    isNew = false;
    this.#parts.set(tab, { store, unfollow });
    return store;
  }

  /**
   * @param {InboxStore | undefined} inbox
   * @param {Tab} tab
   * @param {Snapshot} whole that of the inbox
   * @returns {Snapshot}
   */
  snapshot(inbox, tab, whole) {
    const store = this.store(inbox, tab);
    const snapshot = store === inbox ? whole : /** @type {InboxStore} */ (store).getSnapshot();
    if (tab !== "unread" || (store !== inbox && snapshot.state !== "loading")) {
      return { ...snapshot, counts: whole.counts };
    }
    // Of the ones that are loaded, until all are.
    const items = whole.items.filter(({ read_at: readAt }) => readAt === null);
    return { ...whole, items };
  }

  close() {
    this.#parts.forEach(({ store, unfollow }) => {
      unfollow();
      store.close();
    });
    this.#parts.clear();
  }
}
