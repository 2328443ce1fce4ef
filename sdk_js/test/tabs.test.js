import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { share } from "../src/tabs/share.js";
import { TestBrowser } from "./tabs.js";

/** @typedef {import("./tabs.js").TestTab} TestTab */

/**
 * @param {TestTab} tab
 * @param {string} [name]
 * @returns {unknown[]} what it is told from now on
 */
function listen(tab, name = "a:1") {
  /** @type {unknown[]} */
  const told = [];
  const channel = tab.hub.channel(name);
  channel.on("*", (data) => told.push(data));
  for (const event of /** @type {const} */ (["tidings:gap", "tidings:recovered"])) {
    channel.on(event, () => told.push(event.slice("tidings:".length)));
  }
  return told;
}

/**
 * Tabs that are connected, each of which listens to `a:1`; the first one leads.
 *
 * @param {number} count
 * @param {(index: number) => import("../src/hub.js").Options} [options]
 * @param {import("./memory_hub.js").HubOptions} [about]
 */
async function opened(count, options = () => ({}), about = {}) {
  const browser = new TestBrowser(() => 0.5, about);
  const tabs = Array.from({ length: count }, (_, index) => browser.open(options(index)));
  const told = tabs.map((tab) => listen(tab));
  await browser.clock.pass(100);
  const states = () => tabs.map((tab) => tab.hub.state);
  assert.deepEqual(new Set(states()), new Set(["connected"]));
  const publish = async (/** @type {unknown[]} */ ...datas) => {
    datas.forEach((data) => browser.server.publish("a:1", "e", data));
    await browser.clock.pass(100);
  };
  return { browser, server: browser.server, clock: browser.clock, tabs, told, states, publish };
}

describe("one connection", () => {
  test("for all tabs, each with its channels", async () => {
    const { server, tabs, told, publish } = await opened(3);
    const other = listen(tabs[2], "b:1");
    await publish(1);
    server.publish("b:1", "e", 2);
    await publish();
    assert.deepEqual([told, other], [[[1], [1], [1]], [2]]);
    assert.deepEqual([server.opened, server.connections.size], [1, 1]);
    assert.deepEqual(tabs.map(({ hub }) => [hub.user, hub.transport]), tabs.map(() => ["7", "websocket"]));
  });

  test("a tab that dies is missed at once, and what it alone had is left", async () => {
    const { server, clock, tabs } = await opened(2);
    listen(tabs[1], "b:1");
    await clock.pass(100);
    const has = () => [...server.connections].flatMap((connection) => [...connection.channels]).sort();
    assert.deepEqual(has(), ["a:1", "b:1", "user:7"]);
    tabs[1].kill();
    await clock.pass(100);
    assert.deepEqual(has(), ["a:1", "user:7"]);
  });

  test("closing a hub ends it in this tab alone", async () => {
    const { server, clock, tabs, told, states, publish } = await opened(3);
    tabs[1].hub.close();
    await publish(1);
    assert.deepEqual(states(), ["connected", "closed", "connected"]);
    tabs[0].hub.close();
    await publish(2);
    assert.deepEqual(states(), ["closed", "closed", "connected"]);
    tabs[1].hub.connect();
    await clock.pass(100);
    tabs[0].hub.connect();
    await publish(3);
    assert.deepEqual(told, [[1, "recovered", 2, 3], ["recovered", 1, 2, 3], [1, "recovered", 2, 3]]);
    tabs.forEach((tab) => tab.hub.close());
    await clock.pass(100);
    assert.equal(server.connections.size, 0);
  });

  test("a publish of a follower is answered, and done once although the leader dies before the answer", async () => {
    const { server, clock, tabs, told } = await opened(2, undefined, { delayMs: () => 5 });
    const receipt = tabs[1].hub.channel("a:1").publish("said", { toJSON: () => "hi" });
    await clock.pass(12);
    assert.equal(server.seq, 1);
    tabs[0].kill();
    await clock.pass(2000);
    assert.deepEqual(await receipt, { id: [...server.ids.keys()][0], cursor: "e.1", duplicate: true });
    assert.deepEqual([server.seq, told[1]], [1, ["recovered", "hi"]]);
  });
});

describe("another leader", () => {
  test("follows at once when the first one dies, puts its page aside, or closes", async () => {
    for (const end of /** @type {const} */ (["kill", "leave", "close"])) {
      const { server, clock, tabs, told, publish } = await opened(3);
      await publish(1);
      server.publish("a:1", "e", 2);
      if (end === "close") {
        tabs[0].hub.close();
      } else {
        tabs[0][end]();
      }
      server.publish("a:1", "e", 3);
      await clock.pass(20);
      await publish(4);
      assert.deepEqual(told.slice(1), [[1, "recovered", 2, 3, 4], [1, "recovered", 2, 3, 4]], end);
      assert.equal(server.opened, 2);
    }
  });

  test("a page that was put aside follows when it is shown again", async () => {
    const { server, clock, tabs, told, publish } = await opened(2);
    tabs[0].leave();
    await clock.pass(100);
    await publish(1);
    tabs[0].wake();
    await publish(2);
    assert.deepEqual(told, [["recovered", 1, 2], ["recovered", 1, 2]]);
    assert.equal(server.connections.size, 1);
  });

  test("the words of a former one are not taken", async () => {
    const { browser, clock, tabs, told, publish } = await opened(2);
    const ghost = tabs[0].commons.channel("t");
    const heard = [];
    ghost.onmessage = ({ data }) => heard.push(data);
    await publish(1);
    const { to, events } = heard.find((message) => message.events !== undefined);
    ghost.postMessage({ from: "ghost", to, events: [{ ...events[0], values: [9, "a:1", "e.9"] }] });
    ghost.postMessage({ from: "ghost", lead: true });
    await publish(2);
    await clock.pass(1000);
    assert.deepEqual(told, [[1, 2], [1, "recovered", 2]]);
    assert.equal(browser.server.connections.size, 1);
  });

  test("a lost connection is everybody's, and one comes back for all", async () => {
    const { server, clock, tabs, told, states, publish } = await opened(3);
    server.cut({});
    await clock.pass(0);
    assert.deepEqual(states(), ["waiting", "waiting", "waiting"]);
    server.publish("a:1", "e", 1);
    await clock.pass(20_000);
    await publish(2);
    assert.deepEqual(told, tabs.map(() => ["recovered", 1, 2]));
    assert.deepEqual([server.opened, server.connections.size], [2, 1]);
  });

  test("one that hangs: the others help themselves, and share again when it is gone", async () => {
    const { server, clock, tabs, told, states, publish } = await opened(3);
    tabs[0].commons.hangs = true;
    await publish(1);
    await clock.pass(60_000);
    assert.deepEqual(told, [[], ["recovered", 1], ["recovered", 1]]);
    assert.equal(server.connections.size, 3);
    tabs[0].kill();
    await clock.pass(1000);
    await publish(2);
    assert.deepEqual(told.slice(1), [["recovered", 1, "recovered", 2], ["recovered", 1, "recovered", 2]]);
    assert.deepEqual([server.connections.size, states().slice(1)], [1, ["connected", "connected"]]);
  });
});

describe("tokens", () => {
  /** Counts what each tab was asked for; `give` may be changed. */
  function counted() {
    const asked = [0, 0, 0];
    const given = { give: (/** @type {number} */ index) => /** @type {string | null} */ (`t${index}`) };
    const options = (/** @type {number} */ index) => ({
      getToken: async () => {
        asked[index] += 1;
        return given.give(index);
      },
    });
    return { asked, given, options };
  }

  test("are the leader's, from the first to the next", async () => {
    const { asked, options } = counted();
    const { clock, tabs, publish, told } = await opened(3, options);
    assert.deepEqual(asked, [1, 0, 0]);
    await clock.pass(90_000);
    assert.deepEqual(asked, [2, 0, 0]);
    tabs[0].kill();
    await publish(1);
    assert.deepEqual([asked, told[2]], [[2, 1, 0], ["recovered", 1]]);
  });

  test("a leader that gets none hands over; without any all are closed", async () => {
    const { asked, given, options } = counted();
    given.give = (index) => {
      if (index === 0) {
        throw new Error("502");
      }
      return `t${index}`;
    };
    const browser = new TestBrowser();
    const tabs = [0, 1, 2].map((index) => browser.open(options(index)));
    await browser.clock.pass(5000);
    assert.deepEqual(tabs.map((tab) => tab.hub.state), ["connected", "connected", "connected"]);
    assert.deepEqual([asked, browser.server.connections.size], [[1, 1, 0], 1]);
    given.give = () => null;
    browser.server.cut({ code: "expired" });
    await browser.clock.pass(60_000);
    assert.deepEqual(tabs.map((tab) => tab.hub.error?.code), ["unauthorized", "unauthorized", "unauthorized"]);
    assert.equal(browser.server.connections.size, 0);
  });

  test("are each tab's own where it helps itself", async () => {
    const { asked, options } = counted();
    const may = ({ token }) => /^t\d$/.test(token);
    const { server, clock, tabs, publish, told } = await opened(2, options, { may });
    tabs[0].commons.hangs = true;
    await clock.pass(60_000);
    await publish(1);
    assert.deepEqual([asked, told[1], server.connections.size], [[1, 1, 0], ["recovered", 1], 2]);
  });

  test("what a new one covers and what it does not is known in every tab", async () => {
    const { options } = counted();
    let covered = ["a:1", "b:1"];
    const may = (_, name) => name.startsWith("user:") || covered.includes(name);
    const { clock, tabs } = await opened(2, options, { may });
    listen(tabs[1], "b:1");
    listen(tabs[1], "c:1");
    await clock.pass(100);
    const states = () => ["a:1", "b:1", "c:1"].map((name) => tabs[1].hub.channel(name).state);
    assert.deepEqual(states(), ["subscribed", "subscribed", "denied"]);
    covered = ["a:1", "c:1"];
    await clock.pass(95_000);
    assert.deepEqual(states(), ["subscribed", "denied", "subscribed"]);
  });
});

test("where the browser cannot, each tab has its own connection", () => {
  const world = { open: () => ({ ask: async () => {}, close: () => {} }), watch: () => () => {} };
  // Node 20 has no locks.
  const shared = share("https://push.example.org", /** @type {any} */ (world), { shareTabs: true });
  assert.deepEqual([shared.open, shared.watch], [world.open, world.watch]);
});
