// The stand-ins for browser APIs and the hub behave like the originals.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { TestTabApi, TestOrigin } from "./tab_api.js";
import { MemoryHub } from "./memory_hub.js";
import { TestClock } from "./session_harness.js";

function testTabs() {
  const clock = new TestClock();
  const shared = new TestOrigin(clock);
  const holders = [];
  /** Holds a lock until `end`. */
  const hold = (api, holder, options = {}) => {
    let end = () => {};
    const until = new Promise((resolve) => {
      end = () => resolve(undefined);
    });
    const done = api.locks.request("name", options, () => {
      holders.push(holder);
      return until;
    });
    return { done, end };
  };
  return { clock, holders, hold, tabs: [1, 2, 3].map(() => new TestTabApi(shared)) };
}

describe("locks", () => {
  test("are held by one tab at a time, in the order of the requests", async () => {
    const { clock, holders, hold, tabs } = testTabs();
    const [first] = tabs.map((tab, index) => hold(tab, index));
    await clock.pass(1);
    assert.deepEqual(holders, [0]);
    first.end();
    await clock.pass(1);
    assert.deepEqual(holders, [0, 1]);
  });

  test("in shared mode are held together, after an exclusive holder", async () => {
    const { clock, holders, hold, tabs } = testTabs();
    const exclusive = hold(tabs[0], 0);
    const shared = [hold(tabs[1], 1, { mode: "shared" }), hold(tabs[2], 2, { mode: "shared" })];
    const last = hold(tabs[0], 3);
    await clock.pass(1);
    assert.deepEqual(holders, [0]);
    exclusive.end();
    await clock.pass(1);
    assert.deepEqual(holders, [0, 1, 2]);
    shared.forEach(({ end }) => end());
    await clock.pass(1);
    assert.deepEqual(holders, [0, 1, 2, 3]);
    last.end();
    await last.done;
  });

  test("are released when their tab ends, and a request can be aborted", async () => {
    const { clock, holders, hold, tabs } = testTabs();
    hold(tabs[0], 0);
    const controller = new AbortController();
    const aborted = assert.rejects(hold(tabs[1], 1, { signal: controller.signal }).done, { name: "AbortError" });
    hold(tabs[2], 2);
    await clock.pass(1);
    controller.abort();
    tabs[0].kill();
    await clock.pass(1);
    await aborted;
    assert.deepEqual(holders, [0, 2]);
  });
});

test("a channel delivers copies to the other living tabs, in order", async () => {
  const { clock, tabs } = testTabs();
  const channels = tabs.map((tab) => tab.channel("name"));
  const received = channels.map(() => []);
  channels.forEach((channel, index) => {
    channel.onmessage = ({ data }) => received[index].push(data);
  });
  const message = { n: 1 };
  channels[0].postMessage(message);
  message.n = 2;
  channels[0].postMessage(message);
  tabs[1].kill();
  await clock.pass(1);
  assert.deepEqual(received, [[], [], [{ n: 1 }, { n: 2 }]]);
});

describe("memory hub", () => {
  /** A link to a hub with a history of two publications, and the events that it received. */
  async function openLink(auth) {
    const clock = new TestClock();
    const hub = new MemoryHub(clock, { history: 2, may: (_, name) => name !== "no:1" });
    hub.publish("a:1", "e", 1);
    const events = [];
    const link = hub.open(["websocket"], {
      auth: () => auth,
      onTransport: () => {},
      onEvent: (event, values) => events.push([event, ...values]),
      onLost: () => events.push("lost"),
    });
    await clock.pass(1);
    return { clock, hub, events, link };
  }

  test("sends tidings:ready, then missed publications, then live ones", async () => {
    const { clock, hub, events } = await openLink({ channels: ["a:1", "no:1"], since: "e.0" });
    hub.publish("a:1", "e", 2);
    hub.publish("b:1", "e", 3);
    await clock.pass(1);
    assert.deepEqual(events[0][1].channels["a:1"], { recovered: true });
    assert.equal(events[0][1].channels["no:1"].error.code, "forbidden");
    assert.equal(events[0][1].cursor, "e.0");
    assert.deepEqual(events.slice(1), [["e", 1, "a:1", "e.1"], ["e", 2, "a:1", "e.2"]]);
    hub.disconnectAll();
    assert.equal(events.at(-1), "lost");
  });

  test("restarts a subscription from a cursor, or reports that it cannot", async () => {
    const { clock, hub, events, link } = await openLink({ channels: ["a:1"] });
    hub.publish("a:1", "e", 2);
    await clock.pass(1);
    const subscribe = async (since) => {
      const response = link.request("tidings:subscribe", { channels: ["a:1"], since });
      await clock.pass(1);
      return /** @type {any} */ (await response).channels["a:1"];
    };
    events.length = 0;
    assert.deepEqual(await subscribe("e.0"), { recovered: true });
    assert.deepEqual(events.map(([, data]) => data), [1, 2]);
    hub.publish("a:1", "e", 3);
    await clock.pass(1);
    events.length = 0;
    assert.deepEqual([await subscribe("e.0"), await subscribe("d.2")], [{ recovered: false }, { recovered: false }]);
    assert.deepEqual(events, []);
  });
});
