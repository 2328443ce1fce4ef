import { createElement } from "react";
import { createRoot } from "react-dom/client";
import { Room } from "./room.js";

globalThis.root ??= createRoot(document.body);
globalThis.root.render(createElement(Room));
import.meta.hot?.accept();
