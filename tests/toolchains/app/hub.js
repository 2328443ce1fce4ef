// As applications do it: one module connects, at its top, with an address relative to the page.
import { connect } from "tidings";

const { token, shareTabs } = globalThis;

export const hub = connect("/", {
  getToken: () => token,
  keepAs: "toolchain",
  keepQueueAs: "toolchain",
  shareTabs,
  hot: import.meta.hot ?? import.meta.webpackHot,
});
export const orders = hub.collection("Order", {
  channel: "orders:all",
  load: () => [{ id: 1, title: "first", version: 1 }],
});
export const room = hub.channel("room:1");
