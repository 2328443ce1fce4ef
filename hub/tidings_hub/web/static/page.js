import { element } from "./elements.js";
import { duration, Feed, nowMs } from "./feed.js";
import { newest, publish } from "./hub_api.js";
import { copy, recipes } from "./recipes.js";
import { Wire } from "./wire.js";

/** Asking for ids and latencies waits this long, so that a burst is one question. */
const COMPLETE_AFTER_MS = 250;
const COMPLETE_ROWS = 100;
const COPIED_MS = 1600;

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

const wire = new Wire(root.dataset.channel ?? "demo:hello", {
  state(name, text) {
    if (name === "connected") {
      trouble.hidden = true;
    }
    state.textContent = text;
    state.parentElement?.setAttribute("data-state", name);
    cut.textContent = name === "cut" || name === "refused" ? "Connect" : "Disconnect";
  },
  transport(name) {
    transport.hidden = name === "";
    transport.textContent = name;
  },
  ready(ready, returned) {
    element("user", HTMLElement).textContent = ready.user;
    const answer = ready.channels[wire.channel];
    if (answer?.error !== undefined) {
      say(`${wire.channel}: ${answer.error.message}`);
    } else if (returned) {
      tellReturn(answer?.recovered === true);
    }
  },
  publication(event, data, channel, cursor) {
    feed.add(event, data, channel, cursor);
    completeSoon();
  },
  gap(channels) {
    recovered.textContent = "recovered: false";
    feed.note(`Something is missing in ${channels.join(", ")}: reload its data`, true);
  },
  cursor(cursor) {
    element("cursor", HTMLElement).textContent = cursor;
  },
  trouble: say,
});

/** @param {string} text */
function say(text) {
  trouble.textContent = text;
  trouble.hidden = false;
}

/** @param {boolean} complete */
function tellReturn(complete) {
  recovered.textContent = complete ? "recovered: true" : "recovered: false";
  const told = complete ? "whatever was said meanwhile follows" : "something is lost, reload the data";
  feed.note(`Back again: ${told}`, !complete);
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
      feed.complete(feed.lacking ? await newest(wire.channel, COMPLETE_ROWS, keyInput.value) : [], askedMs);
    } catch {
      // Without history or a key the rows do without: the wire itself has neither id nor time.
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
  const { curl, python } = recipes(location.origin, wire.channel, keyNeeded);
  element("curl", HTMLElement).textContent = curl;
  element("python", HTMLElement).textContent = python;
  for (const shown of document.querySelectorAll("[data-shows=channel]")) {
    shown.textContent = wire.channel;
  }
}

async function send() {
  const sentMs = nowMs();
  sent.classList.remove("wrong");
  try {
    const data = JSON.parse(element("data", HTMLTextAreaElement).value);
    const event = element("event", HTMLInputElement).value;
    const receipt = await publish({ channel: wire.channel, event, data }, keyInput.value);
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

element("channel-form", HTMLFormElement).addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await wire.switchTo(channelInput.value);
    trouble.hidden = true;
    feed.note(`Listening to ${wire.channel}`, false);
  } catch (error) {
    say(error instanceof Error ? error.message : String(error));
  }
  showRecipes();
});

element("polling", HTMLInputElement).addEventListener("change", (event) => {
  wire.pollingOnly(event.target instanceof HTMLInputElement && event.target.checked);
});

cut.addEventListener("click", () => {
  if (cut.textContent === "Connect") {
    wire.connect();
  } else {
    wire.disconnect();
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
channelInput.value = wire.channel;
showRecipes();
wire.connect();
