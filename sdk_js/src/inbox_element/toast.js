import { create } from "./dom.js";

const SHOWN_MS = 8000;

/** What an action has done, at the end of the panel for some seconds, with a button that takes it back. */
export class Toast {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {(() => unknown) | undefined} */
  #undo;
  #undoText;

  /** @param {string} undoText */
  constructor(undoText) {
    this.#undoText = undoText;
    this.element = create("div", { class: "toast-place", role: "status" });
  }

  /**
   * @param {string} text
   * @param {() => unknown} [undo]
   */
  show(text, undo) {
    clearTimeout(this.#timer);
    this.#undo = undo;
    const toast = create("div", { class: "toast", part: "toast" }, create("span", {}, text));
    if (undo) {
      toast.append(create("button", { type: "button", class: "link", "data-action": "undo" }, this.#undoText));
    }
    this.element.replaceChildren(toast);
    this.#hideLater();
  }

  hide() {
    clearTimeout(this.#timer);
    this.element.replaceChildren();
  }

  undo() {
    this.hide();
    return this.#undo?.();
  }

  #hideLater() {
    this.#timer = setTimeout(() => {
      // A user who is about to click gets more time.
      if (this.element.querySelector(":hover, :focus")) {
        this.#hideLater();
      } else {
        this.hide();
      }
    }, SHOWN_MS);
  }
}
