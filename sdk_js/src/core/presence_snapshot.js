/** @typedef {import("./error.js").TidingsError} TidingsError */

/**
 * @typedef {object} Member
 * @property {string} user
 * @property {Readonly<Record<string, any>> | null} info what the backend put into this user's token
 */

/**
 * @typedef {object} PresenceSnapshot the members of a channel. Immutable; each change creates a new one
 * @property {readonly Readonly<Member>[] | null} members null: more than the hub lists (`presence_list_max`)
 * @property {number} count the number of members, also if `members` is null
 * @property {"loading" | "ready" | "failed"} state `failed`: the hub does not provide the members
 * @property {TidingsError | undefined} error the reason for `failed`
 */

/** @type {PresenceSnapshot} */
export const NOT_LOADED = Object.freeze({ members: Object.freeze([]), count: 0, state: "loading", error: undefined });
