/**
 * @template {object} Model
 * @typedef {object} Entry
 * @property {Model} model
 * @property {number} position in the order of loading: decides between models that compare as equal
 * @property {boolean} isStale its row has changed or is deleted
 */

/** If more than one row in this many has changed, sorting all of them is no more work than placing each. */
const SORT_ALL_RATIO = 8;

/**
 * The models of `Rows` in the order of a comparison function. Only the changed ones are moved, by binary search:
 * sorting 20,000 names takes longer than a frame.
 *
 * @template {object} Model
 */
export class SortedRows {
  /** @type {Map<unknown, Entry<Model>>} by key */
  #byKey = new Map();
  /** @type {Entry<Model>[] | undefined} undefined: to be sorted completely */
  #sorted;
  /** @type {Set<unknown>} the keys of changed rows */
  #changedKeys = new Set();
  #nextPosition = 0;
  #compare;

  /** @param {(a: Model, b: Model) => number} compare */
  constructor(compare) {
    this.#compare = (/** @type {Entry<Model>} */ a, /** @type {Entry<Model>} */ b) =>
      compare(a.model, b.model) || a.position - b.position;
  }

  /** @param {unknown} key of a row that was created, changed or deleted */
  onChanged(key) {
    this.#changedKeys.add(key);
  }

  /** All rows were replaced. */
  onReplaced() {
    this.#sorted = undefined;
  }

  /**
   * @param {ReadonlyMap<unknown, {model: Model}>} rows
   * @returns {Model[]}
   */
  models(rows) {
    const sorted = this.#sorted;
    const keys = this.#changedKeys;
    this.#changedKeys = new Set();
    // If the comparison function throws, the next call sorts everything.
    this.#sorted = undefined;
    this.#sorted =
      sorted && keys.size * SORT_ALL_RATIO < sorted.length ? this.#place(sorted, keys, rows) : this.#sortAll(rows);
    return this.#sorted.map((entry) => entry.model);
  }

  /** @param {ReadonlyMap<unknown, {model: Model}>} rows */
  #sortAll(rows) {
    this.#nextPosition = 0;
    this.#byKey.clear();
    return Array.from(rows, ([key, { model }]) => this.#add(key, model)).sort(this.#compare);
  }

  /**
   * @param {Entry<Model>[]} sorted
   * @param {Set<unknown>} keys of the changed rows
   * @param {ReadonlyMap<unknown, {model: Model}>} rows
   */
  #place(sorted, keys, rows) {
    const added = [];
    for (const key of keys) {
      const row = rows.get(key);
      const previous = this.#byKey.get(key);
      this.#byKey.delete(key);
      if (previous) {
        previous.isStale = true;
      }
      if (row) {
        added.push(this.#add(key, row.model, previous?.position));
      }
    }
    const kept = sorted.filter((entry) => !entry.isStale);
    for (const entry of added) {
      kept.splice(this.#indexFor(entry, kept), 0, entry);
    }
    return kept;
  }

  /**
   * @param {unknown} key
   * @param {Model} model
   * @param {number} [position]
   */
  #add(key, model, position = this.#nextPosition++) {
    const entry = { model, position, isStale: false };
    this.#byKey.set(key, entry);
    return entry;
  }

  /**
   * @param {Entry<Model>} entry
   * @param {Entry<Model>[]} sorted
   */
  #indexFor(entry, sorted) {
    let start = 0;
    let end = sorted.length;
    while (start < end) {
      const middle = (start + end) >>> 1;
      if (this.#compare(/** @type {Entry<Model>} */ (sorted[middle]), entry) < 0) {
        start = middle + 1;
      } else {
        end = middle;
      }
    }
    return start;
  }
}
