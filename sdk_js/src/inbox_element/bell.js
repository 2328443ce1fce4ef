import { create, icon } from "./dom.js";
import { withNumber } from "./texts.js";

const MAX_BADGE = 99;

/** The button with the number of unseen notifications, and what a screen reader says when the number changes. */
export class Bell {
  #texts;
  #badge;

  /** @param {import("./texts.js").Texts} texts */
  constructor(texts) {
    this.#texts = texts;
    this.#badge = create("span", { class: "badge", part: "badge", "aria-hidden": "true" });
    this.button = create("button", { class: "bell-button", part: "bell", type: "button", "aria-haspopup": "dialog" });
    this.button.setAttribute("aria-expanded", "false");
    this.button.append(icon("bell"), this.#badge);
    this.live = create("span", { class: "for-screen-readers", role: "status" });
  }

  /** @param {number} unseen */
  update(unseen) {
    this.#badge.hidden = unseen === 0;
    const badge = unseen > MAX_BADGE ? `${MAX_BADGE}+` : `${unseen}`;
    if (this.#badge.textContent !== badge) {
      this.#badge.textContent = badge;
      this.live.textContent = unseen > 0 ? withNumber(this.#texts.arrived, unseen) : "";
    }
    // What is read aloud has the number that is shown.
    this.button.setAttribute("aria-label", withNumber(this.#texts.open, badge));
  }
}
