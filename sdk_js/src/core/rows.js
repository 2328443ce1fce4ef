/**
 * @typedef {"created" | "updated" | "deleted"} Op
 * @typedef {number | string} Version compared with others of the same model, so of one type
 */

/** How many deleted models are remembered, the last ones, so that an older version does not bring one back. */
const GONE_MAX = 1000;
const TIME = /^(.{10})[T ](.{8})(\.\d+)?(Z|[+-]\d\d:\d\d)?$/;

/**
 * The models of a collection by key, each in the highest version that was seen (PROTOCOL.md section 3).
 *
 * @template {object} Model
 */
export class Rows {
  /** @type {Map<unknown, {model: Model, version: Version | undefined}>} */
  #rows = new Map();
  /** @type {Map<unknown, Version>} versions of deleted models */
  #gone = new Map();
  /** @type {Set<unknown>} keys that changed since `begin` */
  #touched = new Set();
  #keyOf;
  #ofLoaded;

  /**
   * @param {(model: Model) => unknown} keyOf
   * @param {(model: Model) => Version | undefined} ofLoaded the version of a loaded model; undefined if it does not
   *   say
   */
  constructor(keyOf, ofLoaded) {
    this.#keyOf = keyOf;
    this.#ofLoaded = ofLoaded;
  }

  /** @returns {Model[]} in the order of loading; what was created since comes last */
  get models() {
    return Array.from(this.#rows.values(), (row) => row.model);
  }

  /**
   * A publication of `push_model`; whether it changed anything.
   *
   * @param {Op} op
   * @param {Model} model
   * @param {Version} version
   * @returns {boolean}
   */
  apply(op, model, version) {
    const key = this.#keyOf(model);
    const have = this.#rows.get(key)?.version ?? -Infinity;
    const gone = this.#gone.get(key) ?? -Infinity;
    if (have > version || (op === "deleted" ? gone > version : gone >= version)) {
      return false;
    }
    this.#touched.add(key);
    this.#gone.delete(key);
    if (op === "deleted") {
      this.#gone.set(key, version);
      const [oldest] = this.#gone.keys();
      if (this.#gone.size > GONE_MAX) {
        this.#gone.delete(oldest);
      }
      return this.#rows.delete(key);
    }
    this.#rows.set(key, { model: Object.freeze(model), version });
    return true;
  }

  /** Loading begins: what changes from now on may be newer than what is loaded. */
  begin() {
    this.#touched.clear();
  }

  /**
   * What was loaded takes the place of everything, except where something newer is known.
   *
   * @param {Iterable<Model>} models
   */
  load(models) {
    const before = this.#rows;
    this.#rows = new Map();
    for (const model of models) {
      const key = this.#keyOf(model);
      const version = this.#ofLoaded(model);
      const have = before.get(key);
      const changed = this.#touched.has(key);
      const gone = this.#gone.get(key);
      if (have !== undefined && isNewer(have.version, version, changed)) {
        this.#rows.set(key, have);
      } else if (gone === undefined || !(version === undefined ? changed : gone >= version)) {
        this.#rows.set(key, { model: Object.freeze(model), version });
      }
    }
    for (const key of this.#touched) {
      const have = before.get(key);
      if (have !== undefined && !this.#rows.has(key)) {
        this.#rows.set(key, have);
      }
    }
  }
}

/**
 * @param {Version | undefined} have
 * @param {Version | undefined} loaded
 * @param {boolean} changed whether `have` came while loading
 * @returns {boolean}
 */
function isNewer(have, loaded, changed) {
  return have === undefined || loaded === undefined ? changed : have > loaded;
}

/**
 * The version that `push_model` would give a model: an integer `version`, or `updated_at` in microseconds since
 * 1970, where
 * a time without a zone counts as UTC.
 *
 * @param {object} model
 * @returns {number | undefined}
 */
export function versionOf(model) {
  const { version, updated_at: at } = /** @type {{version?: unknown, updated_at?: unknown}} */ (model);
  if (Number.isInteger(version)) {
    return Number(version);
  }
  const [, day, time, fraction = 0, zone = "Z"] = TIME.exec(String(at)) ?? [];
  return Date.parse(`${day}T${time}${zone}`) * 1000 + Math.trunc(Number(fraction) * 1e6) || undefined;
}
