// A list, presence, events and a publish: between them these load every part of the SDK.
import { createElement, useState } from "react";
import { useChannel, useCollection, usePresence } from "tidings/react";
import { hub, orders, room } from "./hub.js";

export function Room() {
  const [said, setSaid] = useState([]);
  const { items } = useCollection(orders);
  const { count } = usePresence(room);
  useChannel(room, "said", (text) => setSaid((previous) => [...previous, text]));
  const titles = items.map(({ title }) => title);
  return createElement(
    "main",
    null,
    createElement("p", { id: "room" }, `orders ${titles.join()}; members ${count}; said ${said.join()}`),
    createElement("button", { onClick: () => room.publish("said", `hello ${hub.user}`) }, "say"),
  );
}
