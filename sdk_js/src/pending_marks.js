// Marks that the hub may not have yet. All inboxes of a hub show them at once.

/** How long the event of a mark may take. Without it the inbox is loaded again. */
const EVENT_WAIT_MS = 5000;

/**
 * `version`: of the hub's event, once the hub has answered.
 *
 * @typedef {import("./core/inbox_marks.js").InboxMark & {version?: number}} PendingMark
 * @typedef {import("./inbox_types.js").InboxSession} InboxSession
 */

/**
 * @typedef {object} MarkedInbox
 * @property {() => number} version that it shows; -1: none yet
 * @property {() => void} show shows the marks
 * @property {() => unknown} reload
 */

/** @type {WeakMap<InboxSession, PendingMarks>} */
const bySession = new WeakMap();

/** The marks of one session, and its open inboxes. */
export class PendingMarks {
  /** @type {Set<PendingMark>} */
  #marks = new Set();
  /** @type {Set<MarkedInbox>} */
  #inboxes = new Set();
  #session;

  /** @param {InboxSession} session */
  constructor(session) {
    this.#session = session;
  }

  /**
   * @param {InboxSession} session
   * @returns {PendingMarks}
   */
  static of(session) {
    const marks = bySession.get(session) ?? new PendingMarks(session);
    bySession.set(session, marks);
    return marks;
  }

  /**
   * @param {MarkedInbox} inbox
   * @returns {() => void} it is closed
   */
  open(inbox) {
    this.#inboxes.add(inbox);
    return () => this.#inboxes.delete(inbox);
  }

  /**
   * @param {number} version that an inbox shows
   * @returns {PendingMark[]} what it shows besides
   */
  after(version) {
    const versions = [...this.#inboxes].map((inbox) => inbox.version()).filter((shown) => shown >= 0);
    const isOld = (/** @type {PendingMark} */ mark) => versions.every((shown) => Number(mark.version) <= shown);
    this.#marks.forEach((mark) => isOld(mark) && this.#marks.delete(mark));
    return [...this.#marks].filter((mark) => !(Number(mark.version) <= version));
  }

  /**
   * Shows a mark everywhere and sends it.
   *
   * @param {PendingMark} mark
   * @returns {Promise<void>} rejects with a TidingsError; then the items are as before
   */
  async send(mark) {
    const { outbox, environment } = this.#session;
    const { action, ids } = mark;
    this.#marks.add(mark);
    this.#show();
    try {
      const { version } = await outbox.request("tidings:inbox_mark", ids ? { action, ids } : { action, all: true });
      mark.version = version;
      environment.setTimer(() => this.#reload(mark), EVENT_WAIT_MS);
    } catch (error) {
      this.#marks.delete(mark);
      throw error;
    } finally {
      this.#show();
    }
  }

  /** Another user may be the next one. */
  clear() {
    this.#marks.clear();
  }

  #show() {
    this.#inboxes.forEach((inbox) => inbox.show());
  }

  /** @param {PendingMark} mark whose event has not come to each inbox */
  #reload(mark) {
    if (this.#marks.has(mark)) {
      this.#inboxes.forEach((inbox) => inbox.version() < Number(mark.version) && inbox.reload());
    }
  }
}
