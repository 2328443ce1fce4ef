import { create } from "./dom.js";
import { readable } from "./texts.js";

/** @typedef {{category: string, label?: string, required: boolean, methods: Record<string, boolean>}} Preference */

/**
 * @param {readonly Preference[]} preferences
 * @param {import("./texts.js").Texts} texts
 * @returns {HTMLElement[]} one group of switches for each category
 */
export function preferenceGroups(preferences, texts) {
  return preferences.map((preference) => {
    const label = preference.label || readable(preference.category);
    const legend = create("legend", {}, label);
    if (preference.required) {
      legend.append(create("span", { class: "hint" }, texts.required));
    }
    const switches = Object.entries(preference.methods).map(([method, isOn]) => {
      const box = create("input", { type: "checkbox", role: "switch", "data-method": method });
      box.dataset["category"] = preference.category;
      box.checked = isOn;
      box.disabled = preference.required;
      return create("label", {}, create("span", {}, readable(method)), box);
    });
    return create("fieldset", { class: "preference", part: "preference" }, legend, ...switches);
  });
}
