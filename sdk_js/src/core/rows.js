/**
 * @typedef {"created" | "updated" | "deleted"} Op
 * @typedef {number | string} Version compared only with versions of the same model, which have the same type
 */

/** How many versions of deleted models are kept, the latest ones. An older update cannot restore these models. */
const DELETED_MAX = 1000;
const TIME = /^(.{10})[T ](.{8})(\.\d+)?(Z|[+-]\d\d:\d\d)?$/;

/**
 * The models of a collection by key, each in the highest version seen so far (PROTOCOL.md section 3).
 *
 * @template {object} Model
 */
export class Rows {
  /** @type {Map<unknown, {model: Model, version: Version | undefined}>} */
  #rows = new Map();
  /** @type {Map<unknown, Version>} */
  #deletedVersions = new Map();
  /** @type {Set<unknown>} keys that changed since `startLoad` */
  #changedKeys = new Set();
  #keyOf;
  #loadedVersion;

  /**
   * @param {(model: Model) => unknown} keyOf
   * @param {(model: Model) => Version | undefined} loadedVersion of a loaded model; undefined if it has none
   */
  constructor(keyOf, loadedVersion) {
    this.#keyOf = keyOf;
    this.#loadedVersion = loadedVersion;
  }

  /** @returns {Model[]} in the order of loading; models created later come last */
  get models() {
    return Array.from(this.#rows.values(), (row) => row.model);
  }

  /**
   * Applies a publication of `push_model`.
   *
   * @param {Op} op
   * @param {Model} model
   * @param {Version} version
   * @returns {boolean} whether anything changed
   */
  apply(op, model, version) {
    const key = this.#keyOf(model);
    const currentVersion = this.#rows.get(key)?.version ?? -Infinity;
    const deletedVersion = this.#deletedVersions.get(key) ?? -Infinity;
    if (currentVersion > version || (op === "deleted" ? deletedVersion > version : deletedVersion >= version)) {
      return false;
    }
    this.#changedKeys.add(key);
    this.#deletedVersions.delete(key);
    if (op === "deleted") {
      this.#deletedVersions.set(key, version);
      const [oldest] = this.#deletedVersions.keys();
      if (this.#deletedVersions.size > DELETED_MAX) {
        this.#deletedVersions.delete(oldest);
      }
      return this.#rows.delete(key);
    }
    this.#rows.set(key, { model: Object.freeze(model), version });
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
    for (const model of models) {
      const key = this.#keyOf(model);
      const version = this.#loadedVersion(model);
      const row = previous.get(key);
      const isChanged = this.#changedKeys.has(key);
      const deletedVersion = this.#deletedVersions.get(key);
      if (row !== undefined && isNewer(row.version, version, isChanged)) {
        this.#rows.set(key, row);
      } else if (deletedVersion === undefined || !(version === undefined ? isChanged : deletedVersion >= version)) {
        this.#rows.set(key, { model: Object.freeze(model), version });
      }
    }
    for (const key of this.#changedKeys) {
      const row = previous.get(key);
      if (row !== undefined && !this.#rows.has(key)) {
        this.#rows.set(key, row);
      }
    }
  }
}

/**
 * @param {Version | undefined} current
 * @param {Version | undefined} loaded
 * @param {boolean} isChanged whether `current` arrived during the load
 * @returns {boolean} whether `current` is newer than `loaded`
 */
function isNewer(current, loaded, isChanged) {
  return current === undefined || loaded === undefined ? isChanged : current > loaded;
}

/**
 * The version that `push_model` would send for a model: an integer `version`, or `updated_at` in microseconds since
 * 1970. A time without a zone is UTC.
 *
 * @param {object} model
 * @returns {number | undefined}
 */
export function versionOf(model) {
  const { version, updated_at: updatedAt } = /** @type {{version?: unknown, updated_at?: unknown}} */ (model);
  if (Number.isInteger(version)) {
    return Number(version);
  }
  const [, day, time, fraction = 0, zone = "Z"] = TIME.exec(String(updatedAt)) ?? [];
  return Date.parse(`${day}T${time}${zone}`) * 1000 + Math.trunc(Number(fraction) * 1e6) || undefined;
}
