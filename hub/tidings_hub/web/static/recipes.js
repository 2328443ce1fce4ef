/**
 * Commands that publish to the page's channel, for the hub at `origin`.
 *
 * A channel name has no quotes, backslashes or white space, so it is not escaped here.
 *
 * @param {string} origin such as http://127.0.0.1:8000
 * @param {string} channel
 * @param {boolean} keyNeeded whether the hub requires an API key
 * @returns {{curl: string, python: string}}
 */
export function recipes(origin, channel, keyNeeded) {
  const body = `{"channel": "${channel}", "event": "greeting", "data": {"text": "Hello from curl"}}`;
  const curl = [
    `curl ${origin}/api/publish`,
    ...(keyNeeded ? [`-H "Authorization: Bearer $TIDINGS_API_KEY"`] : []),
    "-H 'Content-Type: application/json'",
    `-d '${body}'`,
  ].join(" \\\n  ");
  const key = keyNeeded ? `, api_key=os.environ["TIDINGS_API_KEY"]` : "";
  const python = [
    ...(keyNeeded ? ["import os", ""] : []),
    "from tidings import Emitter",
    "",
    `with Emitter("${origin}"${key}) as emitter:`,
    `    emitter.emit("greeting", {"text": "Hello from Python"}, channel="${channel}")`,
  ].join("\n");
  return { curl, python };
}

/**
 * Copies text. If the clipboard is not allowed (a page without HTTPS, except localhost), the text is selected instead.
 *
 * @param {string} text
 * @param {HTMLElement} source the element with the text
 * @returns {Promise<boolean>} whether it was copied
 */
export async function copy(text, source) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection()?.selectAllChildren(source);
    return false;
  }
}
