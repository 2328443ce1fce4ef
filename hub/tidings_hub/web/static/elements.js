/**
 * The element with this id.
 *
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} type the expected class
 * @returns {T}
 */
export function element(id, type) {
  const node = document.getElementById(id);
  if (!(node instanceof type)) {
    throw new Error(`the page has no ${type.name} #${id}`);
  }
  return node;
}

/**
 * Creates an element with text in it. Received data is only ever set as text, never as markup.
 *
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {string} className
 * @param {string} [text]
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, className, text) {
  const node = document.createElement(tag);
  node.className = className;
  if (text !== undefined) {
    node.textContent = text;
  }
  return node;
}
