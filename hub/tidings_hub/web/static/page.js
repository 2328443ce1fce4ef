import { Connection } from "./connection.js";
import { element } from "./elements.js";
import { duration, Feed, nowMs } from "./feed.js";
import { publish } from "./publish.js";
import { copy, recipes } from "./recipes.js";

/** The delay before ids and latencies are requested, so that a burst causes one request. */
const COMPLETE_AFTER_MS = 250;
const COMPLETE_ROWS = 100;
const COPIED_MS = 1600;
/** The text for each state of the hub. */
const STATES = {
  connecting: "Connecting…",
  connected: "Connected",
  waiting: "No connection. Retrying…",
  closed: "Disconnected by you",
};

const root = document.documentElement;
const keyNeeded = root.dataset.keyNeeded === "true";
const channelInput = element("channel", HTMLInputElement);
const keyInput = element("key", HTMLInputElement);
const publishResult = element("publish-result", HTMLOutputElement);
const errorNotice = element("error", HTMLElement);
const stateText = element("state", HTMLElement);
const transportText = element("transport", HTMLElement);
const recoveredText = element("recovered", HTMLElement);
const connectButton = element("connect", HTMLButtonElement);

const feed = new Feed(element("feed", HTMLOListElement), (count) => {
  element("count", HTMLElement).textContent = String(count);
  element("empty", HTMLElement).hidden = feed.list.childElementCount > 0;
});

const connection = new Connection(root.dataset.channel ?? "demo:hello", {
  onState: showState,
  onTransport(name) {
    transportText.hidden = name === undefined;
    transportText.textContent = name ?? "";
  },
  onPublication(data, meta) {
    element("cursor", HTMLElement).textContent = meta.cursor;
    feed.add(data, meta);
    completeSoon();
  },
  onReconnect(recovered) {
    recoveredText.textContent = recovered ? "recovered: true" : "recovered: false";
    const consequence = recovered ? "all missed publications follow" : "publications are missing, reload your data";
    feed.note(`Reconnected: ${consequence}`, !recovered);
  },
  onError: (error) => showError(`${error.message} (${error.code})`),
});

/** @param {import("tidings").Hub} hub */
function showState({ state, error, user }) {
  const isClosedByUser = error?.code === "closed";
  if (error === undefined) {
    errorNotice.hidden ||= state === "connected";
  } else if (!isClosedByUser) {
    showError(`${error.message} (${error.code})`);
  }
  stateText.textContent = error === undefined || isClosedByUser ? STATES[state] : "Refused by the hub";
  stateText.parentElement?.setAttribute("data-state", state);
  element("user", HTMLElement).textContent = user ?? "–";
  connectButton.textContent = state === "closed" ? "Connect" : "Disconnect";
}

/** @param {string} text */
function showError(text) {
  errorNotice.textContent = text;
  errorNotice.hidden = false;
}

/** @type {number | undefined} */
let completeTimer;

function completeSoon() {
  if (completeTimer !== undefined) {
    return;
  }
  completeTimer = setTimeout(async () => {
    const requestedMs = nowMs();
    try {
      feed.complete(feed.isIncomplete ? await connection.history(COMPLETE_ROWS) : [], requestedMs);
    } catch {
      // Without the history, the rows stay without ids: publications carry neither an id nor a time.
      feed.complete([], requestedMs);
    } finally {
      completeTimer = undefined;
    }
    if (feed.isIncomplete) {
      completeSoon();
    }
  }, COMPLETE_AFTER_MS);
}

function showRecipes() {
  const { curl, python } = recipes(location.origin, connection.channel, keyNeeded);
  element("curl", HTMLElement).textContent = curl;
  element("python", HTMLElement).textContent = python;
  for (const node of document.querySelectorAll("[data-shows=channel]")) {
    node.textContent = connection.channel;
  }
}

async function publishFromForm() {
  const sentMs = nowMs();
  publishResult.classList.remove("wrong");
  try {
    const data = JSON.parse(element("data", HTMLTextAreaElement).value);
    const event = element("event", HTMLInputElement).value;
    const receipt = await publish({ channel: connection.channel, event, data }, keyInput.value);
    const text = `Receipt after ${duration(nowMs() - sentMs)}`;
    publishResult.value = text;
    const onArrival = (/** @type {number} */ tookMs) => {
      publishResult.value = `${text}, arrived here after ${duration(tookMs)}`;
    };
    feed.addSent(receipt, { atMs: sentMs, onArrival });
  } catch (error) {
    publishResult.classList.add("wrong");
    const message = error instanceof Error ? error.message : String(error);
    publishResult.value = error instanceof SyntaxError ? `The data is not JSON: ${message}` : message;
  }
}

element("publish-form", HTMLFormElement).addEventListener("submit", (event) => {
  event.preventDefault();
  void publishFromForm();
});

element("channel-form", HTMLFormElement).addEventListener("submit", (event) => {
  event.preventDefault();
  if (channelInput.value !== connection.channel) {
    errorNotice.hidden = true;
    feed.note(`Subscribed to ${channelInput.value}`, false);
    connection.switchTo(channelInput.value);
    showRecipes();
  }
});

element("polling", HTMLInputElement).addEventListener("change", (event) => {
  connection.setPollingOnly(event.target instanceof HTMLInputElement && event.target.checked);
});

connectButton.addEventListener("click", () => {
  if (connection.isClosed) {
    connection.connect();
  } else {
    connection.close();
  }
});

element("clear", HTMLButtonElement).addEventListener("click", () => feed.clear());

for (const button of document.querySelectorAll("button[data-copies]")) {
  button.addEventListener("click", async () => {
    const source = element(button.getAttribute("data-copies") ?? "", HTMLElement);
    const isCopied = await copy(source.textContent ?? "", source);
    const text = isCopied ? "Copied" : "Selected: press Ctrl+C";
    button.textContent = text;
    element("copied", HTMLElement).textContent = text;
    setTimeout(() => {
      button.textContent = "Copy";
      element("copied", HTMLElement).textContent = "";
    }, COPIED_MS);
  });
}

element("key-field", HTMLElement).hidden = !keyNeeded;
// Browsers restore form fields on reload. These two must match the new connection.
element("polling", HTMLInputElement).checked = false;
channelInput.value = connection.channel;
showRecipes();
connection.connect();
