import { userOf } from "../core/token_user.js";
import { checkToken } from "../tokens.js";

/**
 * @typedef {import("../socket.js").LinkListener} LinkListener
 * @typedef {import("../tokens.js").GetToken} GetToken
 */

/**
 * The user of one tab, which decides with which tabs it shares a connection.
 *
 * A tab trusts its group, the tabs with the same `shareTabs`, until its hub closes. From then on another user may sign
 * in, so the tab reads its own token first. It stays in the group only as the group's user. Without `getToken` nothing
 * is checked: such connections belong to anonymous users.
 */
export class TabUser {
  /** @type {string | undefined} undefined: the user of whichever connection the group has */
  #user;
  /** @type {string | null | undefined} the user of the group; null: the tab does not use the group again */
  #groupUser;
  #isUnknown = false;
  /** Identifies the time until the hub closes: a token that arrives later is ignored. */
  #visit = {};
  #getToken;

  /** @param {GetToken | undefined} getToken */
  constructor(getToken) {
    this.#getToken = getToken;
  }

  /** @returns {boolean} whether the tab needs its own token before it uses the connection of another tab */
  get isUnknown() {
    return this.#isUnknown && this.#getToken !== undefined;
  }

  /** The hub closed: another user may be the next one. */
  onClose() {
    this.#visit = {};
    this.#user = undefined;
    this.#groupUser ??= null;
    this.#isUnknown = true;
  }

  /**
   * @returns {Promise<string | undefined>} the application's token
   * @throws {Error} it is no token
   */
  async readToken() {
    const visit = this.#visit;
    // Without a token a tab must not lead: another tab may get one.
    const token = checkToken(await this.#getToken?.());
    if (token && visit === this.#visit) {
      if (this.#isUnknown) {
        // With another kind of token this tab shares its connection with no other tab.
        this.#user = userOf(token) ?? crypto.randomUUID();
        this.#isUnknown = false;
      } else if (this.#user !== undefined) {
        this.#user = userOf(token) ?? this.#user;
      }
    }
    return token;
  }

  /**
   * @param {string} group
   * @returns {string} the name of the group that this tab joins
   */
  nameOf(group) {
    return this.#user === undefined || this.#user === this.#groupUser ? group : JSON.stringify([group, this.#user]);
  }

  /**
   * A listener that checks the user of the connection first.
   *
   * @param {LinkListener} listener
   * @param {() => void} [onOther] the connection belongs to another user; unset: it is the tab's own connection
   * @returns {LinkListener}
   */
  check(listener, onOther) {
    return {
      ...listener,
      onEvent: (event, values) => {
        if (event === "tidings:ready" && this.#getToken) {
          const user = String(Object(values[0]).user);
          if (onOther && this.#user !== undefined && this.#user !== user) {
            // The tab needs its own token, and then a group of its user.
            this.#groupUser = null;
            this.#isUnknown = true;
            onOther();
            return;
          }
          this.#user = user;
          this.#groupUser = this.#groupUser === undefined ? user : this.#groupUser;
        }
        listener.onEvent(event, values);
      },
    };
  }
}
