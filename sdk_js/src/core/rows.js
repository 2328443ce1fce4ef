import { SortedRows } from "./sorted_rows.js";

/**
 * @typedef {"created" | "updated" | "deleted"} Op
 * @typedef {number | string} Version compared only with versions of the same model and of the same kind
 * @typedef {string} Kind `field:<name>`, `given`, `database` or `clock:<id>` (PROTOCOL.md section 3)
 */

/** How many versions of deleted models are kept, the latest ones. An older update cannot restore these models. */
const DELETED_MAX = 1000;
/** The kind of pushes that do not name theirs, and of versions in loaded models. */
const DEFAULT_KIND = "field:version";
const TIME = /^(.{10})[T ](.{8})(\.\d+)?(Z|[+-]\d\d:\d\d)?$/;

/**
 * The models of a collection by key, each in the highest version seen so far. Of two versions that cannot be compared,
 * the later arrival wins: publications of one channel arrive in the broker's order.
 *
 * @template {object} Model
 */
export class Rows {
  /** @type {Map<unknown, {model: Model, version?: Version, kind?: Kind}>} loaded models have no version and kind */
  #rows = new Map();
  /** @type {Map<unknown, {version: Version, kind: Kind}>} */
  #deleted = new Map();
  /** @type {Set<unknown>} keys that changed since `startLoad` */
  #changedKeys = new Set();
  #hasWarned = false;
  #name;
  #keyOf;
  #versionOption;
  #sorted;

  /**
   * @param {string} name of the models' class
   * @param {(model: Model) => unknown} keyOf
   * @param {((model: Model) => Version | undefined) | undefined} [versionOption] the version of a loaded model; without
   *   it, the field that a push names
   * @param {((a: Model, b: Model) => number) | undefined} [sort] the order of `models`
   */
  constructor(name, keyOf, versionOption, sort) {
    this.#name = name;
    this.#keyOf = keyOf;
    this.#versionOption = versionOption;
    this.#sorted = sort && new SortedRows(sort);
  }

  /** @returns {Model[]} sorted, or in the order of loading; models created later come last */
  get models() {
    return this.#sorted?.models(this.#rows) ?? Array.from(this.#rows.values(), (row) => row.model);
  }

  /**
   * Applies a publication of `push_model`.
   *
   * @param {Op} op
   * @param {Model} model
   * @param {Version} version
   * @param {Kind} [kind]
   * @returns {boolean} whether anything changed
   */
  apply(op, model, version, kind = DEFAULT_KIND) {
    const key = this.#keyOf(model);
    const row = this.#rows.get(key);
    if ((row && this.#isOlder(row, version, kind)) || this.#isBeforeDeletion(key, op, version, kind)) {
      return false;
    }
    this.#changedKeys.add(key);
    this.#sorted?.onChanged(key);
    this.#deleted.delete(key);
    if (op === "deleted") {
      this.#deleted.set(key, { version, kind });
      const [oldest] = this.#deleted.keys();
      if (this.#deleted.size > DELETED_MAX) {
        this.#deleted.delete(oldest);
      }
      return this.#rows.delete(key);
    }
    this.#rows.set(key, { model, version, kind });
    return true;
  }

  /** Marks the start of a load: changes from now on may be newer than the loaded models. */
  startLoad() {
    this.#changedKeys.clear();
  }

  /**
   * Replaces all rows by the loaded models, except rows that are newer.
   *
   * @param {Iterable<Model>} models
   */
  load(models) {
    const previous = this.#rows;
    this.#rows = new Map();
    this.#sorted?.onReplaced();
    for (const model of models) {
      const key = this.#keyOf(model);
      const row = previous.get(key);
      const deleted = this.#deleted.get(key);
      const isChanged = this.#changedKeys.has(key);
      if (row && this.#isNewer(row, model, isChanged)) {
        this.#rows.set(key, row);
      } else if (!deleted || !this.#isNewer(deleted, model, isChanged, true)) {
        this.#rows.set(key, { model });
      }
    }
    for (const key of this.#changedKeys) {
      const row = previous.get(key);
      if (row !== undefined && !this.#rows.has(key)) {
        this.#rows.set(key, row);
      }
    }
  }

  /**
   * @param {{model: Model, version?: Version, kind?: Kind}} row
   * @param {Version} version
   * @param {Kind} kind
   * @returns {boolean} whether this push is older than the row
   */
  #isOlder(row, version, kind) {
    const current = row.kind === kind ? row.version : this.#versionIn(row.model, kind, version);
    if (current === undefined) {
      this.#warnOnce(kind, row.kind);
      return false;
    }
    return current > version;
  }

  /**
   * @param {unknown} key
   * @param {Op} op
   * @param {Version} version
   * @param {Kind} kind
   * @returns {boolean} whether this push is older than the deletion of its model
   */
  #isBeforeDeletion(key, op, version, kind) {
    const deleted = this.#deleted.get(key);
    // A counter starts again if a row is created again under its old key. Clocks do not.
    if (deleted?.kind !== kind || (op === "created" && !isClock(kind))) {
      return false;
    }
    return deleted.version > version || (deleted.version === version && op !== "deleted");
  }

  /**
   * @param {Kind} kind
   * @param {Kind | undefined} current undefined: a loaded model's
   */
  #warnOnce(kind, current) {
    // A clock is never comparable with a load, nor with the clock of another machine: that needs no attention.
    const isExpected = current ? /^clock:.* clock:/.test(`${kind} ${current}`) : isClock(kind) && !this.#versionOption;
    if (isExpected || this.#hasWarned) {
      return;
    }
    this.#hasWarned = true;
    console.warn(
      `tidings: versions of ${this.#name} cannot be compared, so the later arrival wins: "${kind}" of a push with ` +
        `${current ? `"${current}" of another one` : "a loaded model"}. ` +
        "Give all pushes one kind, and let load() return its field",
    );
  }

  /**
   * @param {{model?: Model, version?: Version, kind?: Kind}} row
   * @param {Model} model the loaded one
   * @param {boolean} isChanged whether `row` changed during the load
   * @param {boolean} [orEqual]
   * @returns {boolean} whether `row` is newer than the loaded model
   */
  #isNewer({ model: current, version: pushed, kind = DEFAULT_KIND }, model, isChanged, orEqual = false) {
    const version = pushed ?? (current && this.#versionIn(current, kind, 0));
    const loaded = version === undefined ? undefined : this.#versionIn(model, kind, version);
    if (version === undefined || loaded === undefined) {
      return isChanged;
    }
    return version > loaded || (orEqual && version === loaded);
  }

  /**
   * @param {Model} model
   * @param {Kind} kind
   * @param {Version} like a version of this kind
   * @returns {Version | undefined} of a model that was not pushed with this kind; undefined if it has none
   */
  #versionIn(model, kind, like) {
    if (isClock(kind)) {
      return undefined;
    }
    return this.#versionOption ? this.#versionOption(model) : fieldVersion(model, kind, like);
  }
}

/**
 * @param {Kind} kind
 * @returns {boolean} whether these versions are times of pushes, which no model contains
 */
function isClock(kind) {
  return /^(database$|clock:)/.test(kind);
}

/**
 * The version that `push_model` would send for a model with this kind: the field that it names. Times become
 * microseconds since 1970; a time without a zone is UTC.
 *
 * @param {object} model
 * @param {Kind} kind
 * @param {Version} like a version of this kind
 * @returns {Version | undefined}
 */
export function fieldVersion(model, kind, like) {
  const value = /^field:/.test(kind) ? /** @type {any} */ (model)[kind.slice(6)] : undefined;
  if (typeof value === typeof like) {
    return value;
  }
  const [, day, time, fraction = 0, zone = "Z"] = TIME.exec(String(value)) ?? [];
  return Date.parse(`${day}T${time}${zone}`) * 1000 + Math.trunc(Number(fraction) * 1e6) || undefined;
}

/**
 * @template {object} Model
 * @param {Iterable<Model>} models what the application loaded
 * @param {string} key
 * @returns {Model[]}
 * @throws {Error} a list cannot show it
 */
export function checkModels(models, key) {
  if (!Array.isArray(models) && typeof Object(models)[Symbol.iterator] !== "function") {
    throw new Error(`load returned a value of type ${typeof models}; return the array of models in it.`);
  }
  const list = [...models];
  if (list.some((model) => Object(model)[key] === undefined)) {
    throw new Error(`load returned a model without "${key}"; name its key with the option key.`);
  }
  return list;
}
