const SVG = "http://www.w3.org/2000/svg";

/** Paths of 24 × 24 pixels, drawn as lines. */
const ICONS = {
  bell: "M6 9a6 6 0 1 1 12 0c0 6 2.5 7.5 2.5 7.5h-17S6 15 6 9M10 20a2.2 2.2 0 0 0 4 0",
  check: "M5 12.5l4.5 4.5L19 7.5",
  checks: "M2.5 12.5l4.5 4.5L15.500 8M12 16.500l.5.5L21.500 8",
  dot: "M12 8a4 4 0 1 1 0 8 4 4 0 0 1 0-8",
  archive: "M4 5h16v4H4zM5.500 9v10h13V9M10 13h4",
  inbox: "M4 13l2.500-8h11L20 13v6H4zM4 13h4.500l1.500 2.500h4l1.500-2.500H20",
  more: "M5.500 12h.01M12 12h.01M18.500 12h.01",
  mute: "M8 4.5A6 6 0 0 1 18 9c0 3 .6 4.9 1.2 6M16.5 16.5h-13S6 15 6 9M10 20a2.2 2.2 0 0 0 4 0M3 3l18 18",
  settings: "M4 7h9M17 7h3M4 17h3M11 17h9M15 4.500v5M9 14.500v5",
  back: "M19 12H5M11 6l-6 6 6 6",
  close: "M6 6l12 12M18 6L6 18",
  alert: "M12 7.500v5.500M12 16.500v.2M12 3a9 9 0 1 1 0 18 9 9 0 0 1 0-18",
};

/**
 * @typedef {keyof typeof ICONS} IconName
 * @typedef {{action: string, icon: IconName, label: string}} Action
 */

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string>} [attributes]
 * @param {(Node | string)[]} children text stays text
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function create(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/**
 * @param {IconName} name
 * @returns {SVGElement}
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS(SVG, "path"));
  draw(svg, name);
  return svg;
}

/**
 * @param {Element} svg
 * @param {IconName} name
 */
function draw(svg, name) {
  svg.setAttribute("class", `icon ${name}`);
  svg.firstElementChild?.setAttribute("d", ICONS[name]);
}

/**
 * @param {string} action what a click does
 * @param {IconName} name
 * @param {string} label
 * @returns {HTMLButtonElement}
 */
export function iconButton(action, name, label) {
  const attributes = { type: "button", class: "icon-button", part: "button", "aria-label": label, title: label };
  return create("button", { ...attributes, "data-action": action }, icon(name));
}

/**
 * Changes what the button does and how it looks. It keeps the focus.
 *
 * @param {HTMLButtonElement} button
 * @param {Action} action
 */
export function setIconButton(button, { action, icon: name, label }) {
  if (button.dataset["action"] !== action) {
    button.dataset["action"] = action;
    button.title = label;
    button.setAttribute("aria-label", label);
    draw(/** @type {Element} */ (button.firstElementChild), name);
  }
}

/**
 * @param {unknown} url of a notification
 * @returns {string | undefined} the absolute URL, if a page may open it
 */
export function safeUrl(url) {
  if (typeof url !== "string" || url === "") {
    return undefined;
  }
  try {
    const { href, protocol } = new URL(url, document.baseURI);
    return ["http:", "https:"].includes(protocol) ? href : undefined;
  } catch {
    // No URL: the notification is not a link.
    return undefined;
  }
}
