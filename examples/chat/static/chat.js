const { hub: url, room, name: me } = document.body.dataset;
const byId = (id) => document.getElementById(id);
const make = (tag, properties) => Object.assign(document.createElement(tag), properties);

async function ask(path, options) {
  const answer = await fetch(path, options);
  if (!answer.ok) {
    throw new Error(`${path}: ${answer.status}`);
  }
  return answer;
}

const hub = tidings.connect(url, { getToken: async () => (await ask("/token")).text() });
const texts = {
  connecting: "Connecting…",
  waiting: "No connection, trying again…",
  closed: "Signed out: load the page anew.",
};
hub.on("state", (state) => {
  byId("state").textContent = texts[state] ?? "";
  byId("state").hidden = state === "connected";
});

// What was said: loaded once, then kept up to date by the backend's push_model.
const messages = hub.collection("Message", {
  channel: room,
  load: async ({ signal }) => (await ask("/messages", { signal })).json(),
  sort: (a, b) => a.id - b.id,
});
const rows = new WeakMap();
messages.subscribe(({ items }) => {
  const page = document.scrollingElement;
  const atEnd = page.scrollHeight - page.scrollTop - innerHeight < 80;
  // A message that has not changed is the same object, and keeps its row.
  byId("messages").replaceChildren(...items.map((each) => rows.get(each) ?? rows.set(each, row(each)).get(each)));
  if (atEnd) {
    page.scrollTop = page.scrollHeight;
  }
});

function row(message) {
  const item = make("li", { className: message.name === me ? "mine" : "" });
  const time = new Date(message.at_ms);
  const head = make("p", { className: "head" });
  head.append(
    make("b", { textContent: message.name }),
    make("time", { dateTime: time.toISOString(), textContent: time.toTimeString().slice(0, 5) }),
  );
  // The worker's HTML is sanitised; until it is there, the text is text.
  const body = message.html === null
    ? make("div", { className: "text plain", textContent: message.text })
    : make("div", { className: "text", innerHTML: message.html });
  item.append(head, body);
  return item;
}

// Who is here.
hub.channel(room).presence().subscribe(({ members, count }) => {
  const names = (members ?? []).map(({ info }) => info?.name ?? "?").sort();
  byId("online").replaceChildren(...names.map((each) => make("li", { textContent: each })));
  byId("online").title = `${count} here`;
});

const text = byId("text");
byId("say").addEventListener("submit", async (event) => {
  event.preventDefault();
  const headers = { "Content-Type": "application/json" };
  const body = JSON.stringify({ text: text.value });
  try {
    await ask("/messages", { method: "POST", headers, body });
    text.value = "";
  } catch (error) {
    byId("state").textContent = `That was not sent: ${error.message}`;
    byId("state").hidden = false;
  }
});
text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    byId("say").requestSubmit();
  }
});
