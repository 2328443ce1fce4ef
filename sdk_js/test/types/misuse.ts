// What must not compile: each line is an error to whoever uses the shipped types.
import { connect, TidingsError } from "tidings";
import { useChannel, useCollection, usePresence } from "tidings/react";

type Order = { id: number; total: number };

// @ts-expect-error: an address is needed
connect();
// @ts-expect-error: a token is a text
connect("/", { getToken: () => 7 });
// @ts-expect-error: there is no such transport
connect("/", { transports: ["webtransport"] });
// @ts-expect-error: those who share are named by a text
connect("/", { shareTabs: 7 });
// @ts-expect-error: there is no such option
connect("/", { token: "t" });

const hub = connect("/");
// @ts-expect-error: a channel is named by a text
hub.channel(42);
// @ts-expect-error: there is no such event of a hub
hub.on("connect", () => {});
// @ts-expect-error: only the hub says in what state it is
hub.state = "connected";

const channel = hub.channel<{ updated: Order }>("orders:42");
// @ts-expect-error: somebody has to listen
channel.on("updated");
// @ts-expect-error: the channel has no such event
channel.on("udpated", () => {});
// @ts-expect-error: an order has no name
channel.on("updated", (order) => order.name);
// @ts-expect-error: of this event's data
channel.publish("updated", { id: "1" });
// @ts-expect-error: data is needed
channel.publish("updated");
// @ts-expect-error: a number
channel.history({ limit: "10" });

// @ts-expect-error: how to load is needed
hub.collection<Order>("Order", { channel: "orders:all" });
// @ts-expect-error: a list of models
hub.collection<Order>("Order", { channel: "orders:all", load: () => ({ id: 1, total: 2 }) });
const orders = hub.collection<Order>("Order", { channel: "orders:all", load: () => [] });
// @ts-expect-error: a snapshot never changes
orders.getSnapshot().items.push({ id: 1, total: 2 });
// @ts-expect-error: nor do its models
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
// @ts-expect-error: a snapshot never changes
presence.getSnapshot().members![0]!.user = "8";

// @ts-expect-error: a channel is needed, not its name
useChannel("orders:42", "updated", () => {});
// @ts-expect-error: the channel has no such event
useChannel(channel, "udpated", () => {});
// @ts-expect-error: an order has no name
useChannel(channel, "updated", (order) => order.name);
// @ts-expect-error: somebody has to listen
useChannel(channel, "updated");
// @ts-expect-error: what it is a collection of is said where it is made
useCollection("Order");
// @ts-expect-error: a snapshot never changes
useCollection(orders).items.push({ id: 1, total: 2 });
// @ts-expect-error: a channel is needed
usePresence(hub);
// @ts-expect-error: a large channel has no list
usePresence(channel).members.map(({ user }) => user);
