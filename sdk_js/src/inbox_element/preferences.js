import { create } from "./dom.js";
import { labelOf, methodLabel } from "./texts.js";

/** @typedef {{category: string, label?: string, required: boolean, methods: Record<string, boolean>}} Preference */

/**
 * @param {readonly Preference[]} preferences
 * @param {import("./texts.js").Texts} texts
 * @returns {HTMLElement[]} one group of switches for each category
 */
export function preferenceGroups(preferences, texts) {
  return preferences.map((preference) => {
    const legend = create("legend", {}, labelOf(preference));
    if (preference.required) {
      legend.append(create("span", { class: "hint" }, texts.required));
    }
    const switches = Object.entries(preference.methods).map(([method, isOn]) => {
      const box = create("input", { type: "checkbox", role: "switch", "data-method": method });
      box.dataset["category"] = preference.category;
      box.checked = isOn;
      box.disabled = preference.required;
      return create("label", {}, create("span", {}, methodLabel(method, texts)), box);
    });
    const group = create("fieldset", { class: "preference", part: "preference" }, legend, ...switches);
    if (!preference.required) {
      updateSwitches(group);
    }
    return group;
  });
}

/**
 * With `in_app` off the user gets nothing of a category: the other methods are then disabled.
 *
 * @param {Element} group of one category that is not required
 */
export function updateSwitches(group) {
  /** @type {HTMLInputElement[]} */
  const boxes = [...group.querySelectorAll("input")];
  const isOff = boxes.some((box) => box.dataset["method"] === "in_app" && !box.checked);
  for (const box of boxes) {
    box.disabled = isOff && box.dataset["method"] !== "in_app";
  }
}

/**
 * @param {any} response the list, or the hub's response that has it
 * @returns {Preference[]}
 */
export function preferencesIn(response) {
  return Array.isArray(response) ? response : (response?.preferences ?? []);
}
