// Code that must compile against the shipped types.
import {
  connect,
  TidingsError,
  type Channel,
  type Collection,
  type Hub,
  type Job,
  type JobSnapshot,
  type Push,
  type PushSnapshot,
  type Member,
  type Presence,
  type Present,
  type Snapshot,
} from "tidings";
import { useChannel, useCollection, useInbox, usePresence } from "tidings/react";
import { Inbox } from "tidings/react-inbox";

type Order = { id: number; total: number; version: number };
type OrderEvents = { updated: Order; removed: { id: number } };

const hub: Hub = connect("https://push.example.org", {
  getToken: async () => "token",
  transports: ["polling", "websocket"],
  keepAs: "tidings",
});
connect(new URL("/", "https://push.example.org"), { getToken: () => null, transports: ["polling"] as const });
connect("/", { shareTabs: true });
connect("/", { shareTabs: "user 7", keepQueueAs: "queue 7" });

// With `exactOptionalPropertyTypes`, an option that is not set may be undefined.
const unset = undefined;
connect("/", {
  getToken: unset,
  transports: unset,
  keepAs: unset,
  queueMax: unset,
  requestTimeoutMs: unset,
  keepQueueAs: unset,
  shareTabs: unset,
  hot: unset,
});
hub.collection<Order>("Order", { channel: "orders:all", load: () => [], key: unset, version: unset, sort: unset });
void hub.channel("chat:1").publish("said", 1, { id: unset });
void hub.channel("chat:1").history({ limit: unset, since: unset });
new TidingsError("code", "message", { channel: unset, cause: unset });

const channel: Channel<OrderEvents> = hub.channel<OrderEvents>("orders:42");
const off: () => void = channel.on("updated", (order, meta) => {
  const total: number = order.total;
  const cursor: string = meta.cursor;
  console.log(total, cursor);
});
off();
channel.on("*", (data: Order | { id: number }) => console.log(data.id));
channel.on("tidings:state", (state, error) => {
  const isDenied: boolean = state === "denied";
  const message: string | undefined = error?.message;
  console.log(isDenied, message);
});
channel.on("tidings:gap", (name: string) => console.log(name));
hub.channel("chat:1").on("said", (data) => console.log(data.text));
hub.on("state", (state, error) => console.log(state === "closed", error?.code));
hub.on("error", (error: TidingsError) => console.log(error.code));

const receipt: Promise<{ id: string; cursor: string; duplicate: boolean }> = channel.publish("removed", { id: 1 });
const times: Promise<number[]> = channel
  .history({ limit: 10 })
  .then((publications) => publications.map(({ atMs }) => atMs));

const orders: Collection<Order> = hub.collection<Order>("Order", {
  channel: "orders:all",
  load: async ({ signal }) => (await fetch("/orders", { signal })).json(),
  sort: (a, b) => a.total - b.total,
});
// The types of React's useSyncExternalStore and of a Svelte store.
declare function useSyncExternalStore<T>(
  subscribe: (changed: () => void) => () => void,
  getSnapshot: () => T,
  getServerSnapshot: () => T,
): T;
const { subscribe, getSnapshot, getServerSnapshot } = orders;
const snapshot: Snapshot<Order> = useSyncExternalStore(subscribe, getSnapshot, getServerSnapshot);
const store: { subscribe(run: (value: Snapshot<Order>) => void): () => void } = orders;
console.log(receipt, times, snapshot.items[0]?.total, store);

const presence: Presence = channel.presence();
const offJoin: () => void = presence.on("join", (member: Readonly<Member>) => console.log(member.user, member.info?.name));
presence.on("leave", ({ user }) => console.log(user));
presence.on("change", ({ count }) => console.log(count));
const people: Present = useSyncExternalStore(
  presence.subscribe,
  presence.getSnapshot,
  presence.getServerSnapshot,
);
const users: string[] | undefined = people.members?.map((member) => member.user);
const presenceStore: { subscribe(run: (value: Present) => void): () => void } = presence;
const isDenied: boolean = people.state === "failed" && people.error?.code === "forbidden";
console.log(offJoin, users, presenceStore, isDenied);

useChannel(channel, "updated", (order, meta) => console.log(order.total, meta.cursor));
useChannel(channel, "*", (data: Order | { id: number }) => console.log(data.id));
useChannel(channel, "tidings:gap", (name: string) => console.log(name));
useChannel(hub.channel("chat:1"), "said", (data) => console.log(data.text));
const rows: readonly Readonly<Order>[] = useCollection(orders).items;
const count: number = usePresence(hub.channel("room:1")).count;
console.log(rows, count);

async function followJob(): Promise<void> {
  const job: Job = await hub.job("/tidings/jobs/7f", { init: { headers: { "X-CSRFToken": "1" } } });
  const jobState: JobSnapshot = useSyncExternalStore(job.subscribe, job.getSnapshot, job.getSnapshot);
  const percent: number = (jobState.progress ?? 0) * 100;
  const result: Response = await job.done;
  await job.cancel();
  job.close();
  console.log(percent, result.status, jobState.error?.code);
}
void followJob();

function bell(): [number, string] {
  const { items, counts, state, hasMore, inbox } = useInbox(hub, { unread: true });
  const first: string | undefined = items[0]?.title;
  void inbox?.markRead(items.map(({ id }) => id));
  return [counts.unseen, `${state} ${first} ${hasMore}`];
}
const element = Inbox({ hub, theme: "dark", "text-title": "Nachrichten", onOpen: (event) => event.preventDefault() });
console.log(bell(), element);

async function askForPush(): Promise<void> {
  const push: Push = await hub.push({ scope: "/" });
  const pushState: PushSnapshot = push.getSnapshot();
  await (pushState.state === "off" ? push.enable() : push.disable());
}
void askForPush();
