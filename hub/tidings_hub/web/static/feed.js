import { make } from "./elements.js";

/** The maximum number of rows. The oldest ones are removed, because more rows would slow down the browser. */
const ROWS_MAX = 200;
/** The maximum number of own publishes whose publication has not arrived yet. */
const SENT_MAX = 100;
const LINE_MAX = 72;
const PENDING = "…";

/**
 * @typedef {{latency: HTMLElement, id: HTMLElement, atMs: number, isComplete: boolean}} Entry
 *   `atMs`: when it arrived, in milliseconds since 1970 with fractions; `isComplete`: latency and id are final
 */

/**
 * @typedef {{atMs: number, onArrival: (tookMs: number) => void}} SentPublish `atMs`: when the page published it
 */

/** The list of publications, newest first. */
export class Feed {
  /** @type {Map<string, Entry>} by cursor, oldest first */
  #entries = new Map();
  /** @type {Map<string, SentPublish>} by cursor, oldest first */
  #sent = new Map();
  /** @type {HTMLLIElement[]} rows since the last frame */
  #pendingRows = [];

  /**
   * @param {HTMLOListElement} list
   * @param {(count: number) => void} onChange receives the number of publications since `clear`
   */
  constructor(list, onChange) {
    this.list = list;
    this.onChange = onChange;
    this.count = 0;
  }

  /**
   * Adds a publication that arrived now.
   *
   * @param {unknown} data
   * @param {import("tidings").Meta} meta
   */
  add(data, { event, channel, cursor }) {
    const atMs = nowMs();
    const row = make("li", "new");
    row.dataset.cursor = cursor;
    const line = make("p", "line");
    const latency = make("span", "latency", PENDING);
    line.append(make("span", "event", event), latency);
    const small = make("p", "small");
    const time = make("time", "", timeOfDay(atMs));
    time.dateTime = new Date(atMs).toISOString();
    const id = make("code", "id");
    small.append(time, make("code", "", channel), make("code", "cursor", cursor), id);
    row.append(line, make("pre", "data", format(data)), small);
    /** @type {Entry} */
    const entry = { latency, id, atMs, isComplete: false };
    this.#entries.set(cursor, entry);
    this.count += 1;
    this.#show(row);
    const sent = this.#sent.get(cursor);
    const sentAtMs = sentAtOf(data);
    if (sent !== undefined) {
      this.#sent.delete(cursor);
      showRoundTrip(entry, sent);
    } else if (sentAtMs !== undefined) {
      showLatency(entry, atMs - sentAtMs, "since the data's sent_at_ms");
    }
    this.#trim();
  }

  /**
   * Records a publish of this page.
   *
   * @param {import("tidings").Receipt} receipt
   * @param {SentPublish} sent its `onArrival` is called immediately if the publication has arrived already
   */
  addSent(receipt, sent) {
    const entry = this.#entries.get(receipt.cursor);
    if (entry !== undefined) {
      entry.id.textContent = receipt.id;
      showRoundTrip(entry, sent);
      return;
    }
    this.#sent.set(receipt.cursor, sent);
    const [oldest] = this.#sent.keys();
    if (this.#sent.size > SENT_MAX && oldest !== undefined) {
      this.#sent.delete(oldest);
    }
  }

  /** @returns {boolean} whether a row may still lack its latency or id */
  get isIncomplete() {
    return [...this.#entries.values()].some((entry) => !entry.isComplete);
  }

  /**
   * Adds what publications do not carry: ids, and latencies by the emitters' clocks.
   *
   * @param {import("tidings").Kept[]} history
   * @param {number} requestedMs when `history` was requested, as from `nowMs`. It may lack later rows
   */
  complete(history, requestedMs) {
    const byCursor = new Map(history.map((publication) => [publication.cursor, publication]));
    for (const [cursor, entry] of this.#entries) {
      const publication = byCursor.get(cursor);
      if (publication !== undefined && !entry.isComplete) {
        entry.isComplete = true;
        entry.id.textContent = publication.id;
        if (entry.latency.textContent === PENDING) {
          showLatency(entry, entry.atMs - publication.atMs, "since the emitter published it, by its clock");
        }
      } else if (!entry.isComplete && entry.atMs < requestedMs) {
        entry.isComplete = true;
        if (entry.latency.textContent === PENDING) {
          entry.latency.textContent = "–";
          entry.latency.title = "unknown: not in the hub's history, and its data has no sent_at_ms";
        }
      }
    }
  }

  /**
   * Adds a note about the connection.
   *
   * @param {string} text
   * @param {boolean} isLoss whether publications are missing here
   */
  note(text, isLoss) {
    this.#show(make("li", isLoss ? "note lost" : "note", text));
  }

  /** Empties the list. */
  clear() {
    this.#entries.clear();
    this.#pendingRows = [];
    this.list.replaceChildren();
    this.count = 0;
    this.onChange(0);
  }

  /** @param {HTMLLIElement} row */
  #show(row) {
    // A burst is laid out once per frame, with at most ROWS_MAX rows. A hidden page has no frames.
    this.#pendingRows.push(row);
    if (this.#pendingRows.length > ROWS_MAX) {
      this.#pendingRows.shift();
    }
    if (this.#pendingRows.length === 1) {
      if (document.hidden) {
        setTimeout(() => this.#flush(), 100);
      } else {
        requestAnimationFrame(() => this.#flush());
      }
    }
  }

  #flush() {
    this.list.prepend(...this.#pendingRows.reverse());
    this.#pendingRows = [];
    while (this.list.childElementCount > ROWS_MAX) {
      this.list.lastElementChild?.remove();
    }
    this.onChange(this.count);
  }

  #trim() {
    const [oldest] = this.#entries.keys();
    if (this.#entries.size > ROWS_MAX && oldest !== undefined) {
      this.#entries.delete(oldest);
    }
  }
}

/** @returns {number} milliseconds since 1970, with fractions; it never decreases */
export function nowMs() {
  return performance.timeOrigin + performance.now();
}

/**
 * @param {number} ms
 * @returns {string} such as "3.2 ms" or "4.1 s"
 */
export function duration(ms) {
  // The clocks of two machines differ slightly, so a latency can be negative.
  const shownMs = Math.max(0, ms);
  return shownMs < 1000 ? `${shownMs.toFixed(shownMs < 10 ? 1 : 0)} ms` : `${(shownMs / 1000).toFixed(1)} s`;
}

/**
 * @param {unknown} data
 * @returns {string} as JSON, on one line if it fits
 */
function format(data) {
  const lines = JSON.stringify(data, null, 2) ?? "nothing";
  const line = lines.replace(/\n\s*/gu, " ");
  return line.length <= LINE_MAX ? line : lines;
}

/**
 * @param {Entry} entry
 * @param {number} ms
 * @param {string} explanation
 */
function showLatency(entry, ms, explanation) {
  entry.latency.replaceChildren(make("b", "", duration(ms)));
  entry.latency.title = explanation;
}

/**
 * @param {Entry} entry
 * @param {SentPublish} sent
 */
function showRoundTrip(entry, sent) {
  showLatency(entry, entry.atMs - sent.atMs, "round trip: from this page's publish to the arrival");
  sent.onArrival(entry.atMs - sent.atMs);
}

/**
 * @param {unknown} data
 * @returns {number | undefined} the data's own `sent_at_ms`, if it has one
 */
function sentAtOf(data) {
  if (typeof data !== "object" || data === null || !Object.hasOwn(data, "sent_at_ms")) {
    return undefined;
  }
  const value = /** @type {{sent_at_ms: unknown}} */ (data).sent_at_ms;
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

/**
 * @param {number} ms
 * @returns {string} local time of day with milliseconds
 */
function timeOfDay(ms) {
  const time = new Date(ms);
  const twoDigits = (/** @type {number} */ value) => String(value).padStart(2, "0");
  const [hours, minutes, seconds] = [time.getHours(), time.getMinutes(), time.getSeconds()].map(twoDigits);
  return `${hours}:${minutes}:${seconds}.${String(time.getMilliseconds()).padStart(3, "0")}`;
}
