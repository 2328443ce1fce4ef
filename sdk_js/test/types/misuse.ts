// Code that must not compile against the shipped types.
import { connect, TidingsError } from "tidings";
import { useChannel, useCollection, usePresence } from "tidings/react";

type Order = { id: number; total: number };

// @ts-expect-error: an address is needed
connect();
// @ts-expect-error: a token is a string
connect("/", { getToken: () => 7 });
// @ts-expect-error: there is no such transport
connect("/", { transports: ["webtransport"] });
// @ts-expect-error: the name of a shared group is a string
connect("/", { shareTabs: 7 });
// @ts-expect-error: there is no such option
connect("/", { token: "t" });

const hub = connect("/");
// @ts-expect-error: a channel name is a string
hub.channel(42);
// @ts-expect-error: there is no such event of a hub
hub.on("connect", () => {});
// @ts-expect-error: the state is read-only
hub.state = "connected";

const channel = hub.channel<{ updated: Order }>("orders:42");
// @ts-expect-error: a handler is needed
channel.on("updated");
// @ts-expect-error: the channel has no such event
channel.on("udpated", () => {});
// @ts-expect-error: an order has no name
channel.on("updated", (order) => order.name);
// @ts-expect-error: the id is a number
channel.publish("updated", { id: "1" });
// @ts-expect-error: data is needed
channel.publish("updated");
// @ts-expect-error: the limit is a number
channel.history({ limit: "10" });

// @ts-expect-error: a load function is needed
hub.collection<Order>("Order", { channel: "orders:all" });
// @ts-expect-error: load must return a list of models
hub.collection<Order>("Order", { channel: "orders:all", load: () => ({ id: 1, total: 2 }) });
const orders = hub.collection<Order>("Order", { channel: "orders:all", load: () => [] });
// @ts-expect-error: a snapshot is read-only
orders.getSnapshot().items.push({ id: 1, total: 2 });
// @ts-expect-error: its models are read-only
orders.getSnapshot().items[0]!.total = 3;
// @ts-expect-error: a code is needed
new TidingsError();

const presence = channel.presence();
// @ts-expect-error: there is no such event of a presence
presence.on("joined", () => {});
// @ts-expect-error: a member has a user, not an id
presence.on("join", ({ id }) => id);
// @ts-expect-error: a large channel has no list
presence.getSnapshot().members.length;
// @ts-expect-error: a snapshot is read-only
presence.getSnapshot().members![0]!.user = "8";

// @ts-expect-error: a channel object is needed, not its name
useChannel("orders:42", "updated", () => {});
// @ts-expect-error: the channel has no such event
useChannel(channel, "udpated", () => {});
// @ts-expect-error: an order has no name
useChannel(channel, "updated", (order) => order.name);
// @ts-expect-error: a handler is needed
useChannel(channel, "updated");
// @ts-expect-error: a collection object is needed, not its name
useCollection("Order");
// @ts-expect-error: a snapshot is read-only
useCollection(orders).items.push({ id: 1, total: 2 });
// @ts-expect-error: a channel is needed
usePresence(hub);
// @ts-expect-error: a large channel has no list
usePresence(channel).members.map(({ user }) => user);
