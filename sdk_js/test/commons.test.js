// The stand-ins that the tests of tabs rely on behave as browsers do.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { TestCommons, TestOrigin } from "./commons.js";
import { MemoryHub } from "./memory_hub.js";
import { TestClock } from "./pair.js";

function origin() {
  const clock = new TestClock();
  const shared = new TestOrigin(clock);
  const told = [];
  /** Holds a lock until `end`. */
  const hold = (commons, who, options = {}) => {
    let end = () => {};
    const until = new Promise((resolve) => {
      end = () => resolve(undefined);
    });
    const done = commons.locks.request("name", options, () => {
      told.push(who);
      return until;
    });
    return { done, end };
  };
  return { clock, told, hold, tabs: [1, 2, 3].map(() => new TestCommons(shared)) };
}

describe("locks", () => {
  test("are held by one, in the order of asking, and given on", async () => {
    const { clock, told, hold, tabs } = origin();
    const [first] = tabs.map((tab, index) => hold(tab, index));
    await clock.pass(1);
    assert.deepEqual(told, [0]);
    first.end();
    await clock.pass(1);
    assert.deepEqual(told, [0, 1]);
  });

  test("that are shared are held by all who share them, after who holds it alone", async () => {
    const { clock, told, hold, tabs } = origin();
    const alone = hold(tabs[0], 0);
    const shared = [hold(tabs[1], 1, { mode: "shared" }), hold(tabs[2], 2, { mode: "shared" })];
    const last = hold(tabs[0], 3);
    await clock.pass(1);
    assert.deepEqual(told, [0]);
    alone.end();
    await clock.pass(1);
    assert.deepEqual(told, [0, 1, 2]);
    shared.forEach(({ end }) => end());
    await clock.pass(1);
    assert.deepEqual(told, [0, 1, 2, 3]);
    last.end();
    await last.done;
  });

  test("end with their tab, and a request ends by its signal", async () => {
    const { clock, told, hold, tabs } = origin();
    hold(tabs[0], 0);
    const over = new AbortController();
    const given = assert.rejects(hold(tabs[1], 1, { signal: over.signal }).done, { name: "AbortError" });
    hold(tabs[2], 2);
    await clock.pass(1);
    over.abort();
    tabs[0].kill();
    await clock.pass(1);
    await given;
    assert.deepEqual(told, [0, 2]);
  });
});

test("a channel reaches the others, as copies, in order, while they live", async () => {
  const { clock, tabs } = origin();
  const channels = tabs.map((tab) => tab.channel("name"));
  const got = channels.map(() => []);
  channels.forEach((channel, index) => {
    channel.onmessage = ({ data }) => got[index].push(data);
  });
  const said = { n: 1 };
  channels[0].postMessage(said);
  said.n = 2;
  channels[0].postMessage(said);
  tabs[1].kill();
  await clock.pass(1);
  assert.deepEqual(got, [[], [], [{ n: 1 }, { n: 2 }]]);
});

describe("the hub in memory", () => {
  /** A connection to a hub that keeps two publications, and what it heard. */
  async function connected(auth) {
    const clock = new TestClock();
    const hub = new MemoryHub(clock, { history: 2, may: (_, name) => name !== "no:1" });
    hub.publish("a:1", "e", 1);
    const heard = [];
    const link = hub.open(["websocket"], {
      auth: () => auth,
      transport: () => {},
      event: (event, values) => heard.push([event, ...values]),
      lost: () => heard.push("lost"),
    });
    await clock.pass(1);
    return { clock, hub, heard, link };
  }

  test("says ready, what was missed, then live", async () => {
    const { clock, hub, heard } = await connected({ channels: ["a:1", "no:1"], since: "e.0" });
    hub.publish("a:1", "e", 2);
    hub.publish("b:1", "e", 3);
    await clock.pass(1);
    assert.deepEqual(heard[0][1].channels["a:1"], { recovered: true });
    assert.equal(heard[0][1].channels["no:1"].error.code, "forbidden");
    assert.equal(heard[0][1].cursor, "e.0");
    assert.deepEqual(heard.slice(1), [["e", 1, "a:1", "e.1"], ["e", 2, "a:1", "e.2"]]);
    hub.cut();
    assert.equal(heard.at(-1), "lost");
  });

  test("begins a subscription anew where it is told to, or says that it cannot", async () => {
    const { clock, hub, heard, link } = await connected({ channels: ["a:1"] });
    hub.publish("a:1", "e", 2);
    await clock.pass(1);
    const ask = async (since) => {
      const answer = link.ask("tidings:subscribe", { channels: ["a:1"], since });
      await clock.pass(1);
      return /** @type {any} */ (await answer).channels["a:1"];
    };
    heard.length = 0;
    assert.deepEqual(await ask("e.0"), { recovered: true });
    assert.deepEqual(heard.map(([, data]) => data), [1, 2]);
    hub.publish("a:1", "e", 3);
    await clock.pass(1);
    heard.length = 0;
    assert.deepEqual([await ask("e.0"), await ask("d.2"), heard], [{ recovered: false }, { recovered: false }, []]);
  });
});
