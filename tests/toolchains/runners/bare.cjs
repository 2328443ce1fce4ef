// A JavaScript engine with the API of React Native, and no more: no document, location, storage, crypto or import().
// Usage: node bare.cjs BUNDLE URL TOKEN
const { readFileSync } = require("node:fs");
const vm = require("node:vm");
const { AbortController } = require("abort-controller"); // React Native's
const { WebSocket } = require("ws");

const [, , bundle, url, token] = process.argv;
const timers = { setTimeout, clearTimeout, setInterval, clearInterval };
const navigator = { product: "ReactNative" };
const bare = vm.createContext({ ...timers, AbortController, WebSocket, URL, console, fetch, navigator, performance });
vm.runInContext("globalThis.global = globalThis.self = globalThis.window = globalThis", bare);
vm.runInContext(readFileSync(bundle, "utf8"), bare);
bare.run(url, token).then((result) => console.log(JSON.stringify(result)));
