// How `<tidings-inbox>` gets its inbox by itself: of a hub of the page, or over a connection of its own.

/**
 * @typedef {{inbox: () => Promise<OpenInbox>, close: () => void}} ElementHub
 * @typedef {import("./store.js").InboxStore & {close: () => void}} OpenInbox
 * @typedef {{connect: (url: string, options: {getToken: () => Promise<string>}) => ElementHub}} Sdk
 */

const SDK = "tidings.js";
// Only while the script runs. An npm module has none: it needs the property `hub`, or the script /tidings.js.
const script = /** @type {HTMLScriptElement | null | undefined} */ (globalThis.document?.currentScript);

/** The inbox that an element has opened itself, and its connection. */
export class ElementConnection {
  /** @type {ElementHub | undefined} */
  #ownHub;
  /** @type {OpenInbox | undefined} */
  #inbox;
  #isClosed = false;

  /**
   * @param {HTMLElement} element with the attributes `url`, and `token` or `token-url`
   * @param {ElementHub | undefined} hub of the page
   * @returns {Promise<OpenInbox | undefined>} undefined: it was closed meanwhile
   */
  async open(element, hub) {
    const sdk = hub ? undefined : await loadSdk();
    if (this.#isClosed) {
      return undefined;
    }
    this.#ownHub = sdk?.connect(element.getAttribute("url") ?? "/", { getToken: () => tokenOf(element) });
    const inbox = await /** @type {ElementHub} */ (hub ?? this.#ownHub).inbox();
    if (this.#isClosed) {
      inbox.close();
      return undefined;
    }
    this.#inbox = inbox;
    return inbox;
  }

  /** Closes what it has opened. The hub of the page stays. */
  close() {
    this.#isClosed = true;
    this.#inbox?.close();
    this.#ownHub?.close();
  }
}

/**
 * @param {HTMLElement} element
 * @returns {Promise<string>} the value of `token` at the moment, or what `token-url` returns; empty: signed out
 */
async function tokenOf(element) {
  const url = element.getAttribute("token-url");
  if (url === null) {
    return element.getAttribute("token") ?? "";
  }
  // Whatever the backend says: from the cache it might be the last user's.
  const response = await fetch(url, { cache: "no-store" });
  if (response.status === 401) {
    // Signed out: what the last user saw must not stay.
    return "";
  }
  if (!response.ok) {
    throw new Error(`${response.status} ${url}`);
  }
  return response.text();
}

/** @type {Promise<Sdk> | undefined} */
let loading;

/** @returns {Promise<Sdk>} that of the page, or else the one beside the element's own script */
function loadSdk() {
  const { tidings } = /** @type {any} */ (globalThis);
  if (tidings?.connect) {
    return Promise.resolve(tidings);
  }
  loading ??= new Promise((resolve, reject) => {
    if (!script?.src) {
      reject(new Error("Set the property `hub`, or load /tidings.js before the element."));
      return;
    }
    const sdk = document.createElement("script");
    sdk.src = new URL(SDK, script.src).href;
    sdk.nonce = script.nonce;
    sdk.addEventListener("load", () => resolve(/** @type {any} */ (globalThis).tidings));
    sdk.addEventListener("error", () => {
      loading = undefined;
      reject(new Error(`${sdk.src} was not loaded.`));
    });
    document.head.append(sdk);
  });
  return loading;
}
