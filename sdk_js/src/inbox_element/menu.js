import { create, icon } from "./dom.js";

const GAP_PX = 4;

/** @typedef {import("./dom.js").Action} Action */

/** The menu of one notification, by the menu button pattern of ARIA. It belongs to the panel: rows would cut it off. */
export class Menu {
  /** @type {HTMLElement | undefined} what has opened it */
  button;

  /** @param {string} label */
  constructor(label) {
    this.element = create("div", { class: "menu", part: "menu", role: "menu", id: "menu", "aria-label": label });
    this.element.hidden = true;
    // A click beside the menu closes it and does nothing else. It leaves the focus to the menu.
    this.backdrop = create("div", { class: "backdrop" });
    this.backdrop.hidden = true;
    this.backdrop.addEventListener("mousedown", (event) => event.preventDefault());
    this.backdrop.addEventListener("click", () => this.close());
    this.element.addEventListener("keydown", (event) => this.#onKey(event));
    this.element.addEventListener("pointerover", ({ target }) => {
      /** @type {HTMLElement | null} */ (/** @type {Element} */ (target).closest("button"))?.focus();
    });
  }

  /** @returns {string | undefined} of the notification, while the menu is open */
  get id() {
    return this.element.hidden ? undefined : this.element.dataset["id"];
  }

  /** @returns {HTMLElement[]} */
  get #items() {
    return /** @type {HTMLElement[]} */ ([...this.element.children]);
  }

  /**
   * @param {HTMLElement} button
   * @param {string} id of the notification
   * @param {Action[]} actions
   */
  open(button, id, actions) {
    this.close();
    this.button = button;
    button.setAttribute("aria-expanded", "true");
    button.setAttribute("aria-controls", "menu");
    this.element.dataset["id"] = id;
    this.element.replaceChildren(...actions.map(createItem));
    this.element.hidden = this.backdrop.hidden = false;
    this.#place();
    this.#items[0]?.focus({ preventScroll: true });
  }

  /**
   * Appends what was loaded after the menu was opened.
   *
   * @param {Action} action
   */
  append(action) {
    const item = createItem(action);
    item.classList.add("apart");
    this.element.append(item);
    this.#place();
  }

  /** Gives the focus back if the menu has it. */
  close() {
    const button = this.button;
    this.button = undefined;
    if (button) {
      const { activeElement } = /** @type {ShadowRoot} */ (this.element.getRootNode());
      if (this.element.contains(activeElement)) {
        button.focus({ preventScroll: true });
      }
      button.setAttribute("aria-expanded", "false");
      button.removeAttribute("aria-controls");
      this.element.hidden = this.backdrop.hidden = true;
    }
  }

  /** Below the button, or above it if the panel ends there. */
  #place() {
    const { element } = this;
    const button = /** @type {HTMLElement} */ (this.button).getBoundingClientRect();
    const panel = /** @type {HTMLElement} */ (element.parentElement).getBoundingClientRect();
    const below = button.bottom - panel.top + GAP_PX;
    const above = button.top - panel.top - GAP_PX - element.offsetHeight;
    const fits = below + element.offsetHeight + GAP_PX <= panel.height;
    const isLeft = getComputedStyle(element).direction === "rtl";
    element.style.top = `${fits ? below : Math.max(GAP_PX, above)}px`;
    element.style.insetInlineEnd = `${isLeft ? button.left - panel.left : panel.right - button.right}px`;
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    const { key } = event;
    if (["Escape", "Tab"].includes(key)) {
      // Tab goes on from the button.
      this.close();
    } else if (!this.#focus(key)) {
      return;
    }
    event.stopPropagation();
    if (key !== "Tab") {
      event.preventDefault();
    }
  }

  /**
   * @param {string} key an arrow, Home, End or the first letter of an item
   * @returns {boolean} whether it is one of them
   */
  #focus(key) {
    const items = this.#items;
    const index = items.findIndex((item) => item.matches(":focus"));
    const target = { ArrowDown: index + 1, ArrowUp: index - 1, Home: 0, End: -1 }[key];
    const rest = [...items.slice(index + 1), ...items];
    const startsWithKey = (/** @type {HTMLElement} */ { textContent }) =>
      key.length === 1 && textContent.toLowerCase().startsWith(key.toLowerCase());
    const item = target === undefined ? rest.find(startsWithKey) : items.at(target % items.length);
    item?.focus();
    return item !== undefined;
  }
}

/** @param {Action} action */
function createItem({ action, icon: name, label }) {
  const attributes = { type: "button", role: "menuitem", tabindex: "-1", "data-action": action };
  return create("button", attributes, icon(name), create("span", {}, label));
}
