/**
 * The lines that make something appear on the page, for the hub at `origin`.
 *
 * A channel's alphabet has no quote, backslash or white space, so it needs no escapes here.
 *
 * @param {string} origin such as http://127.0.0.1:8000
 * @param {string} channel
 * @param {boolean} keyNeeded whether the hub asks for an API key
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
 * Copies text, also where the clipboard is not allowed (a page that is neither https nor localhost).
 *
 * @param {string} text
 * @param {HTMLElement} shown where it stands on the page
 * @returns {Promise<boolean>} false: it is selected instead, for the user's own copy
 */
export async function copy(text, shown) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection()?.selectAllChildren(shown);
    return false;
  }
}
