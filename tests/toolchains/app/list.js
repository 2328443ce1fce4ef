// The page without React.
import { hub, orders, room } from "./hub.js";

const state = { titles: "", count: 0, said: [] };

function show(change) {
  const { titles, count, said } = Object.assign(state, change);
  document.querySelector("#room").textContent = `orders ${titles}; members ${count}; said ${said.join()}`;
}

document.body.innerHTML = '<p id="room"></p><button>say</button>';
document.querySelector("button").onclick = () => room.publish("said", `hello ${hub.user}`);
orders.subscribe(({ items }) => show({ titles: items.map(({ title }) => title).join() }));
room.presence().subscribe(({ count }) => show({ count }));
room.on("said", (text) => show({ said: [...state.said, text] }));
