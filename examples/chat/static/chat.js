const { hub: url, room, name: me } = document.body.dataset;
const byId = (id) => document.getElementById(id);
const make = (tag, properties) => Object.assign(document.createElement(tag), properties);

async function request(path, options) {
  const response = await fetch(path, options);
  if (!response.ok) {
    throw new Error(`${path}: ${response.status}`);
  }
  return response;
}

if (typeof tidings === "undefined") {
  // The hub serves the SDK. While it does not respond, the page tries again.
  byId("state").textContent = "The hub does not respond. Retrying…";
  byId("state").hidden = false;
  setTimeout(() => location.reload(), 2000);
  throw new Error(`${url}/tidings.js was not loaded.`);
}

const hub = tidings.connect(url, { getToken: async () => (await request("/token")).text() });
const stateTexts = {
  connecting: "Connecting…",
  waiting: "No connection. Retrying…",
  closed: "Signed out. Reload the page.",
};
hub.on("state", (state) => {
  byId("state").textContent = stateTexts[state] ?? "";
  byId("state").hidden = state === "connected";
});

// The bell, and pushes when no page is open.
document.querySelector("tidings-inbox").hub = hub;
if ("push" in document.body.dataset) {
  hub.push().then((push) => {
    push.subscribe(({ state }) => { byId("push").hidden = state !== "off"; });
    byId("push").addEventListener("click", () => push.enable().catch((error) => showError(error.message)));
    byId("sign-out").addEventListener("submit", async (event) => {
      event.preventDefault();
      // The next user of this browser gets no pushes of this one. Without a hub the browser unsubscribes all the same.
      const enough = new Promise((resolve) => { setTimeout(resolve, 3000); });
      await Promise.race([push.disable().catch(() => {}), enough]);
      event.target.submit();
    });
  });
}

function showError(message) {
  byId("state").textContent = message;
  byId("state").hidden = false;
}

// The messages: loaded once, then updated by the backend's push_model.
const messages = hub.collection("Message", {
  channel: room,
  load: async ({ signal }) => (await request("/messages", { signal })).json(),
  sort: (a, b) => a.id - b.id,
});
const rows = new WeakMap();
messages.subscribe(({ items }) => {
  const page = document.scrollingElement;
  const atEnd = page.scrollHeight - page.scrollTop - innerHeight < 80;
  // An unchanged message is the same object, and keeps its row.
  byId("messages").replaceChildren(...items.map((message) => {
    return rows.get(message) ?? rows.set(message, makeRow(message)).get(message);
  }));
  if (atEnd) {
    page.scrollTop = page.scrollHeight;
  }
});

function makeRow(message) {
  const item = make("li", { className: message.name === me ? "mine" : "" });
  const time = new Date(message.at_ms);
  const head = make("p", { className: "head" });
  head.append(
    make("b", { textContent: message.name }),
    make("time", { dateTime: time.toISOString(), textContent: time.toTimeString().slice(0, 5) }),
    make("button", { className: "quiet reply", textContent: "Reply", onclick: () => replyTo(message) }),
  );
  // The worker's HTML is sanitized. A message without it is shown as plain text.
  const body = message.html === null
    ? make("div", { className: "text plain", textContent: message.text })
    : make("div", { className: "text", innerHTML: message.html });
  item.append(head, body);
  return item;
}

// The members of the room.
hub.channel(room).presence().subscribe(({ members, count }) => {
  const names = (members ?? []).map(({ info }) => info?.name ?? "?").sort();
  byId("online").replaceChildren(...names.map((textContent) => make("li", { textContent })));
  byId("online").title = `${count} online`;
});

const text = byId("text");
let repliesTo = null;

function replyTo(message) {
  repliesTo = message?.id ?? null;
  byId("reply-to").textContent = message ? `to ${message.name} ×` : "";
  byId("reply-to").hidden = !message;
  text.focus();
}

byId("reply-to").addEventListener("click", () => replyTo(null));
byId("message-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const headers = { "Content-Type": "application/json" };
  const body = JSON.stringify({ text: text.value, reply_to: repliesTo });
  try {
    await request("/messages", { method: "POST", headers, body });
    text.value = "";
    replyTo(null);
  } catch (error) {
    showError(`The message was not sent: ${error.message}`);
  }
});
text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    byId("message-form").requestSubmit();
  }
});
