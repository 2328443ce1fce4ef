import { Connection } from "./connection.js";
import { element } from "./elements.js";
import { duration, Feed, nowMs } from "./feed.js";
import { publish } from "./publish.js";
import { copy, recipes } from "./recipes.js";

/** Asking for ids and latencies waits this long, so that a burst is one question. */
const COMPLETE_AFTER_MS = 250;
const COMPLETE_ROWS = 100;
const COPIED_MS = 1600;
/** What the page says of each state of the hub. */
const STATES = {
  connecting: "Connecting…",
  connected: "Connected",
  waiting: "No connection, trying again…",
  closed: "Disconnected by you",
};

const root = document.documentElement;
const keyNeeded = root.dataset.keyNeeded === "true";
const channelInput = element("channel", HTMLInputElement);
const keyInput = element("key", HTMLInputElement);
const sent = element("sent", HTMLOutputElement);
const trouble = element("trouble", HTMLElement);
const state = element("state", HTMLElement);
const transport = element("transport", HTMLElement);
const recovered = element("recovered", HTMLElement);
const cut = element("cut", HTMLButtonElement);

const feed = new Feed(element("feed", HTMLOListElement), (count) => {
  element("count", HTMLElement).textContent = String(count);
  element("empty", HTMLElement).hidden = feed.list.childElementCount > 0;
});

const connection = new Connection(root.dataset.channel ?? "demo:hello", {
  state: show,
  transport(name) {
    transport.hidden = name === undefined;
    transport.textContent = name ?? "";
  },
  publication(data, meta) {
    element("cursor", HTMLElement).textContent = meta.cursor;
    feed.add(data, meta);
    completeSoon();
  },
  returned(complete) {
    recovered.textContent = complete ? "recovered: true" : "recovered: false";
    const told = complete ? "whatever was said meanwhile follows" : "something is lost, reload the data";
    feed.note(`Back again: ${told}`, !complete);
  },
  trouble: (error) => say(`${error.message} (${error.code})`),
});

/** @param {import("tidings").Hub} hub */
function show({ state: name, error, user }) {
  const byUser = error?.code === "closed";
  if (error === undefined) {
    trouble.hidden ||= name === "connected";
  } else if (!byUser) {
    say(`${error.message} (${error.code})`);
  }
  state.textContent = error === undefined || byUser ? STATES[name] : "Refused by the hub";
  state.parentElement?.setAttribute("data-state", name);
  element("user", HTMLElement).textContent = user ?? "–";
  cut.textContent = name === "closed" ? "Connect" : "Disconnect";
}

/** @param {string} text */
function say(text) {
  trouble.textContent = text;
  trouble.hidden = false;
}

/** @type {number | undefined} */
let completing;

function completeSoon() {
  if (completing !== undefined) {
    return;
  }
  completing = setTimeout(async () => {
    const askedMs = nowMs();
    try {
      feed.complete(feed.lacking ? await connection.newest(COMPLETE_ROWS) : [], askedMs);
    } catch {
      // Without history the rows do without: the wire itself has neither id nor time.
      feed.complete([], askedMs);
    } finally {
      completing = undefined;
    }
    if (feed.lacking) {
      completeSoon();
    }
  }, COMPLETE_AFTER_MS);
}

function showRecipes() {
  const { curl, python } = recipes(location.origin, connection.channel, keyNeeded);
  element("curl", HTMLElement).textContent = curl;
  element("python", HTMLElement).textContent = python;
  for (const shown of document.querySelectorAll("[data-shows=channel]")) {
    shown.textContent = connection.channel;
  }
}

async function send() {
  const sentMs = nowMs();
  sent.classList.remove("wrong");
  try {
    const data = JSON.parse(element("data", HTMLTextAreaElement).value);
    const event = element("event", HTMLInputElement).value;
    const receipt = await publish({ channel: connection.channel, event, data }, keyInput.value);
    const text = `Receipt after ${duration(nowMs() - sentMs)}`;
    sent.value = text;
    const back = (/** @type {number} */ tookMs) => {
      sent.value = `${text}, here after ${duration(tookMs)}`;
    };
    feed.sent(receipt, { atMs: sentMs, back });
  } catch (error) {
    sent.classList.add("wrong");
    const message = error instanceof Error ? error.message : String(error);
    sent.value = error instanceof SyntaxError ? `The data is not JSON: ${message}` : message;
  }
}

element("send-form", HTMLFormElement).addEventListener("submit", (event) => {
  event.preventDefault();
  void send();
});

element("channel-form", HTMLFormElement).addEventListener("submit", (event) => {
  event.preventDefault();
  if (channelInput.value !== connection.channel) {
    trouble.hidden = true;
    feed.note(`Listening to ${channelInput.value}`, false);
    connection.switchTo(channelInput.value);
    showRecipes();
  }
});

element("polling", HTMLInputElement).addEventListener("change", (event) => {
  connection.pollingOnly(event.target instanceof HTMLInputElement && event.target.checked);
});

cut.addEventListener("click", () => {
  if (connection.cut) {
    connection.connect();
  } else {
    connection.close();
  }
});

element("clear", HTMLButtonElement).addEventListener("click", () => feed.clear());

for (const button of document.querySelectorAll("button[data-copies]")) {
  button.addEventListener("click", async () => {
    const shown = element(button.getAttribute("data-copies") ?? "", HTMLElement);
    const copied = await copy(shown.textContent ?? "", shown);
    const text = copied ? "Copied" : "Selected: press Ctrl+C";
    button.textContent = text;
    element("copied", HTMLElement).textContent = text;
    setTimeout(() => {
      button.textContent = "Copy";
      element("copied", HTMLElement).textContent = "";
    }, COPIED_MS);
  });
}

element("key-field", HTMLElement).hidden = !keyNeeded;
// Browsers restore switches and fields on reload; the connection starts from what they show.
element("polling", HTMLInputElement).checked = false;
channelInput.value = connection.channel;
showRecipes();
connection.connect();
