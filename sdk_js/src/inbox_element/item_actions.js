import { preferencesIn } from "./preferences.js";
import { stateActions } from "./row.js";
import { labelOf, withCategory } from "./texts.js";

/**
 * @typedef {import("./preferences.js").Preference} Preference
 * @typedef {import("./store.js").InboxStore} InboxStore
 */

/** What the user can do with one notification, by its buttons and its menu. */
export class ItemActions {
  /** @type {Promise<Preference[]> | undefined} */
  #preferences;
  /** @type {Preference | undefined} of the notification whose menu is open */
  #preference;
  #panel;
  #store;

  /**
   * @param {import("./panel.js").Panel} panel
   * @param {() => InboxStore | undefined} store what the panel shows
   */
  constructor(panel, store) {
    this.#panel = panel;
    this.#store = store;
  }

  /** The preferences may have changed. */
  forgetPreferences() {
    this.#preferences = undefined;
  }

  /** @returns {Promise<Preference[]>} */
  preferences() {
    const preferences = this.#preferences ?? Promise.resolve(this.#store()?.preferences()).then(preferencesIn);
    this.#preferences = preferences;
    preferences.catch(() => {
      // The next call requests them again.
      this.#preferences = undefined;
    });
    return preferences;
  }

  /**
   * @param {string} action
   * @param {string} id
   * @param {HTMLElement | undefined} button
   * @returns {(() => unknown) | undefined} undefined: no action of a notification
   */
  get(action, id, button) {
    const store = this.#store();
    const { texts } = this.#panel;
    /** @type {Record<string, () => unknown>} */
    const actions = {
      read: () => store?.markRead([id]),
      unread: () => store?.markUnread([id]),
      archive: () => this.#move(id, "archive", "unarchive", texts.isArchived),
      unarchive: () => this.#move(id, "unarchive", "archive", texts.isUnarchived),
      menu: () => button && this.#openMenu(id, button),
      "turn-off": () => this.#switch(false),
      "turn-on": () => this.#switch(true),
    };
    return actions[action];
  }

  /**
   * @param {string} id
   * @param {"archive" | "unarchive"} method
   * @param {"archive" | "unarchive"} opposite
   * @param {string} text
   */
  async #move(id, method, opposite, text) {
    const store = this.#store();
    await store?.[method]?.([id]);
    this.#panel.toast.show(text, store?.[opposite] && (() => store[opposite]?.([id])));
  }

  /**
   * @param {string} id
   * @param {HTMLElement} button
   */
  async #openMenu(id, button) {
    const { menu, rows, texts } = this.#panel;
    const item = rows.item(id);
    if (!item || menu.button === button) {
      menu.close();
      return;
    }
    menu.open(button, id, Object.values(stateActions(item, texts)));
    const preferences = await this.preferences();
    const preference = preferences.find(({ category, required }) => category === item.category && !required);
    if (preference && menu.button === button) {
      this.#preference = preference;
      const isOn = methodsOf(preference).some((method) => preference.methods[method]);
      const label = withCategory(isOn ? texts.turnOff : texts.turnOn, labelOf(preference));
      menu.append({ action: isOn ? "turn-off" : "turn-on", icon: isOn ? "mute" : "bell", label });
    }
  }

  /**
   * Turns a category on or off.
   *
   * @param {boolean} isOn
   */
  async #switch(isOn) {
    const preference = this.#preference;
    const store = this.#store();
    if (!preference || !store) {
      return;
    }
    const { category, methods } = preference;
    const changed = methodsOf(preference).filter((method) => methods[method] !== isOn);
    const set = async (/** @type {boolean} */ isEnabled) => {
      this.forgetPreferences();
      for (const method of changed) {
        await store.setPreference(category, method, isEnabled);
      }
    };
    await set(isOn);
    const { texts, toast } = this.#panel;
    toast.show(withCategory(isOn ? texts.isOn : texts.isOff, labelOf(preference)), () => set(!isOn));
  }
}

/**
 * @param {Preference} preference
 * @returns {string[]} what turns the category off: with `in_app` off the user gets nothing of it
 */
function methodsOf({ methods }) {
  return "in_app" in methods ? ["in_app"] : Object.keys(methods);
}
