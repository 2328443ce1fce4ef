import { TidingsError } from "./core/error.js";

/** @typedef {import("./session.js").Session} Session */

/**
 * A publish without a response. `page`: the page that sends it; `user`: whose it is, if known; `sentAtMs`: when it was
 * sent for the first time.
 *
 * @typedef {object} KeptPublish
 * @property {number} [number] its key, in the order of the calls
 * @property {string} page
 * @property {string | undefined} user
 * @property {{channel: string, id: string}} body
 * @property {number} [sentAtMs] by the wall clock
 */

const STORE = "publishes";
/** A hub recognizes a repeated id for 5 minutes (PROTOCOL.md section 2). A minute is for clocks and the way there. */
const REPEATABLE_MS = 240_000;
/** While another tab deletes the database, opening it waits without an event. */
const OPEN_MAX_MS = 2000;

/** The publishes of one page, which are also in IndexedDB until they have a response. */
export class KeptQueue {
  #page = crypto.randomUUID();
  #name;
  #database;
  #session;

  /**
   * @param {string} name of its locks
   * @param {IDBDatabase} database
   * @param {Session} session
   */
  constructor(name, database, session) {
    this.#name = name;
    this.#database = database;
    this.#session = session;
  }

  /** Takes over what the pages before this one have left. A page that still runs sends its own, until it ends. */
  async start() {
    const { locks } = navigator;
    /** @type {KeptPublish[]} */
    const entries = await this.#do((store) => store.getAll());
    const pages = new Set(entries.map(({ page }) => page));
    // This page holds its lock until it ends.
    void locks.request(this.#lockOf(this.#page), () => new Promise(() => {}));
    for (const page of pages) {
      await locks.request(this.#lockOf(page), { ifAvailable: true }, async (lock) => {
        if (lock) {
          await this.#takeOver(page);
        } else {
          void locks.request(this.#lockOf(page), () => this.#takeOver(page));
        }
      });
    }
  }

  /**
   * @param {object} body
   * @returns {Promise<any>} the hub's response, as from the outbox
   */
  async publish(body) {
    const { outbox } = this.#session;
    const { visit } = outbox;
    const user = outbox.user ?? outbox.likelyUser;
    // As JSON, as the hub would receive it: IndexedDB would ignore `toJSON`.
    /** @type {KeptPublish} */
    const entry = { page: this.#page, user, body: JSON.parse(JSON.stringify(body)) };
    entry.number = await this.#try((store) => store.add(entry));
    if (visit.error) {
      void this.#delete(entry);
      throw visit.error;
    }
    return this.#send(entry, outbox.user);
  }

  /** @param {string} page that has ended */
  async #takeOver(page) {
    /** @type {KeptPublish[]} */
    const all = await this.#do((store) => store.getAll());
    for (const entry of all.filter((other) => other.page === page)) {
      entry.page = this.#page;
      void this.#try((store) => store.put(entry));
      this.#resend(entry).catch(({ code, message }) => {
        this.#session.report(new TidingsError(code, `A publish of an earlier page failed: ${message}`, entry.body));
      });
    }
  }

  /** @param {KeptPublish} entry */
  async #resend(entry) {
    const { user, sentAtMs } = entry;
    const { outbox } = this.#session;
    outbox.likelyUser ??= user;
    const isOwn = user !== undefined && [undefined, user].includes(outbox.user);
    if (!isOwn || Date.now() - (sentAtMs ?? Infinity) > REPEATABLE_MS) {
      void this.#delete(entry);
      throw isOwn
        ? new TidingsError("timeout", "it was sent long ago, and may have been published.")
        : new TidingsError("closed", "another user may have signed in.");
    }
    return this.#send(entry, user);
  }

  /**
   * @param {KeptPublish} entry
   * @param {string | undefined} user undefined: the user of the next connection
   */
  async #send(entry, user) {
    const { outbox } = this.#session;
    const onSent = () => {
      if (entry.sentAtMs === undefined) {
        entry.sentAtMs = Date.now();
        entry.user = outbox.user ?? entry.user;
        void (entry.number && this.#try((store) => store.put(entry)));
      }
    };
    try {
      return await outbox.request("tidings:publish", entry.body, onSent, user);
    } finally {
      void this.#delete(entry);
    }
  }

  /** @param {KeptPublish} entry without a number if it could not be stored */
  async #delete({ number }) {
    await (number && this.#try((store) => store.delete(number)));
  }

  /**
   * As `#do`. A failure is an error of the hub, for example when the user has cleared the site's data: publishes are
   * sent all the same, but do not outlive the page.
   *
   * @param {(store: IDBObjectStore) => IDBRequest} operation
   */
  #try(operation) {
    return this.#do(operation).catch((cause) => {
      this.#session.report(new TidingsError("not_loaded", "Publishes do not outlive this page.", { cause }));
    });
  }

  /** @param {string} page */
  #lockOf(page) {
    return `${this.#name} ${page}`;
  }

  /**
   * @param {(store: IDBObjectStore) => IDBRequest} operation
   * @returns {Promise<any>} its result
   */
  async #do(operation) {
    return resultOf(operation(this.#database.transaction(STORE, "readwrite").objectStore(STORE)));
  }
}

/**
 * Opens the queue, and sends what pages before this one have left in it.
 *
 * @param {string} name
 * @param {Session} session
 * @returns {Promise<KeptQueue>} rejects if IndexedDB refuses it, or does not respond
 */
export function openQueue(name, session) {
  return new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error("IndexedDB does not respond.")), OPEN_MAX_MS);
    start(name, session).then(resolve, reject);
  });
}

/**
 * @param {string} name
 * @param {Session} session
 */
async function start(name, session) {
  const opening = indexedDB.open(`tidings ${name}`, 1);
  opening.onupgradeneeded = () => {
    opening.result.createObjectStore(STORE, { keyPath: "number", autoIncrement: true });
  };
  const database = await resultOf(opening);
  // Otherwise no tab could delete it.
  database.onversionchange = () => database.close();
  const queue = new KeptQueue(`tidings queue ${name}`, database, session);
  await queue.start();
  return queue;
}

/**
 * @template Result
 * @param {IDBRequest<Result>} request
 * @returns {Promise<Result>}
 */
function resultOf(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
