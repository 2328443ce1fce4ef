import { make } from "./elements.js";

/** More would only slow the browser down; the oldest rows go first. */
const ROWS_MAX = 200;
/** Marks of our own publishes whose publication has not come back (yet). */
const SENT_MAX = 100;
const LINE_MAX = 72;
const UNKNOWN_YET = "…";

/**
 * @typedef {{latency: HTMLElement, id: HTMLElement, atMs: number, settled: boolean}} Entry
 *   `atMs`: when it arrived, in milliseconds since 1970 with fractions; `settled`: there is no more to learn of it
 */

/**
 * @typedef {{atMs: number, back: (tookMs: number) => void}} Sent when it was published, and whom to tell of its return
 */

/** The list of publications, newest first. */
export class Feed {
  /** @type {Map<string, Entry>} by cursor, oldest first */
  #entries = new Map();
  /** @type {Map<string, Sent>} by cursor, oldest first */
  #sent = new Map();
  /** @type {HTMLLIElement[]} what came since the last frame */
  #waiting = [];

  /**
   * @param {HTMLOListElement} list
   * @param {(count: number) => void} changed is told how many publications were seen since `clear`
   */
  constructor(list, changed) {
    this.list = list;
    this.changed = changed;
    this.count = 0;
  }

  /**
   * A publication as it arrived.
   *
   * @param {unknown} data
   * @param {import("tidings").Meta} meta
   */
  add(data, { event, channel, cursor }) {
    const atMs = nowMs();
    const row = make("li", "new");
    row.dataset.cursor = cursor;
    const line = make("p", "line");
    const latency = make("span", "latency", UNKNOWN_YET);
    line.append(make("span", "event", event), latency);
    const small = make("p", "small");
    const time = make("time", "", clock(atMs));
    time.dateTime = new Date(atMs).toISOString();
    const id = make("code", "id");
    small.append(time, make("code", "", channel), make("code", "cursor", cursor), id);
    row.append(line, make("pre", "data", shown(data)), small);
    /** @type {Entry} */
    const entry = { latency, id, atMs, settled: false };
    this.#entries.set(cursor, entry);
    this.count += 1;
    this.#show(row);
    const sent = this.#sent.get(cursor);
    const claimedMs = claimed(data);
    if (sent !== undefined) {
      this.#sent.delete(cursor);
      returned(entry, sent);
    } else if (claimedMs !== undefined) {
      tell(entry, atMs - claimedMs, "since the data's sent_at_ms");
    }
    this.#trim();
  }

  /**
   * The page published this.
   *
   * @param {import("tidings").Receipt} receipt
   * @param {Sent} sent its `back` is called at once if the publication is here already
   */
  sent(receipt, sent) {
    const entry = this.#entries.get(receipt.cursor);
    if (entry !== undefined) {
      entry.id.textContent = receipt.id;
      returned(entry, sent);
      return;
    }
    this.#sent.set(receipt.cursor, sent);
    const [oldest] = this.#sent.keys();
    if (this.#sent.size > SENT_MAX && oldest !== undefined) {
      this.#sent.delete(oldest);
    }
  }

  /** @returns {boolean} whether a row may still lack its latency or id */
  get lacking() {
    return [...this.#entries.values()].some((entry) => !entry.settled);
  }

  /**
   * Fills in what the wire does not say: ids, and latencies from the emitters' clocks.
   *
   * @param {import("tidings").Kept[]} kept
   * @param {number} askedMs when this was asked, as from `nowMs`: later rows may be in the next answer
   */
  complete(kept, askedMs) {
    const found = new Map(kept.map((each) => [each.cursor, each]));
    for (const [cursor, entry] of this.#entries) {
      const each = found.get(cursor);
      if (each !== undefined && !entry.settled) {
        entry.settled = true;
        entry.id.textContent = each.id;
        if (entry.latency.textContent === UNKNOWN_YET) {
          tell(entry, entry.atMs - each.atMs, "since the emitter's clock said it was sent");
        }
      } else if (!entry.settled && entry.atMs < askedMs) {
        entry.settled = true;
        if (entry.latency.textContent === UNKNOWN_YET) {
          entry.latency.textContent = "–";
          entry.latency.title = "not kept by the hub, and without a sent_at_ms in its data";
        }
      }
    }
  }

  /**
   * Something that happened to the connection, between the publications.
   *
   * @param {string} text
   * @param {boolean} lost whether something is missing here
   */
  note(text, lost) {
    this.#show(make("li", lost ? "note lost" : "note", text));
  }

  /** Empties the list. */
  clear() {
    this.#entries.clear();
    this.#waiting = [];
    this.list.replaceChildren();
    this.count = 0;
    this.changed(0);
  }

  /** @param {HTMLLIElement} row */
  #show(row) {
    // A burst is laid out once per frame, and never more of it than is kept. A hidden page has no frames.
    this.#waiting.push(row);
    if (this.#waiting.length > ROWS_MAX) {
      this.#waiting.shift();
    }
    if (this.#waiting.length === 1) {
      if (document.hidden) {
        setTimeout(() => this.#flush(), 100);
      } else {
        requestAnimationFrame(() => this.#flush());
      }
    }
  }

  #flush() {
    this.list.prepend(...this.#waiting.reverse());
    this.#waiting = [];
    while (this.list.childElementCount > ROWS_MAX) {
      this.list.lastElementChild?.remove();
    }
    this.changed(this.count);
  }

  #trim() {
    const [oldest] = this.#entries.keys();
    if (this.#entries.size > ROWS_MAX && oldest !== undefined) {
      this.#entries.delete(oldest);
    }
  }
}

/** @returns {number} milliseconds since 1970, with fractions, never going backwards */
export function nowMs() {
  return performance.timeOrigin + performance.now();
}

/**
 * @param {number} ms
 * @returns {string} such as "3.2 ms" or "4.1 s"
 */
export function duration(ms) {
  // Clocks of two machines differ by a little; nothing arrives before it was sent.
  const took = Math.max(0, ms);
  return took < 1000 ? `${took.toFixed(took < 10 ? 1 : 0)} ms` : `${(took / 1000).toFixed(1)} s`;
}

/**
 * @param {unknown} data
 * @returns {string} on one line if it fits
 */
function shown(data) {
  const lines = JSON.stringify(data, null, 2) ?? "nothing";
  const line = lines.replace(/\n\s*/gu, " ");
  return line.length <= LINE_MAX ? line : lines;
}

/**
 * @param {Entry} entry
 * @param {number} ms
 * @param {string} how
 */
function tell(entry, ms, how) {
  entry.latency.replaceChildren(make("b", "", duration(ms)));
  entry.latency.title = how;
}

/**
 * @param {Entry} entry
 * @param {Sent} sent
 */
function returned(entry, sent) {
  tell(entry, entry.atMs - sent.atMs, "from this page's publish and back");
  sent.back(entry.atMs - sent.atMs);
}

/**
 * @param {unknown} data
 * @returns {number | undefined} the data's own `sent_at_ms`, if it has one
 */
function claimed(data) {
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
function clock(ms) {
  const time = new Date(ms);
  const two = (/** @type {number} */ value) => String(value).padStart(2, "0");
  const fraction = String(time.getMilliseconds()).padStart(3, "0");
  return `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}.${fraction}`;
}
