import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { share } from "../src/tabs/share.js";
import { TestBrowser } from "./browser.js";
import { tokenFor } from "./memory_hub.js";

/** @typedef {import("./browser.js").TestTab} TestTab */

/**
 * @param {TestTab} tab
 * @param {string} [name]
 * @returns {unknown[]} the data and events that its channel emits from now on
 */
function listen(tab, name = "a:1") {
  /** @type {unknown[]} */
  const received = [];
  const channel = tab.hub.channel(name);
  channel.on("*", (data) => received.push(data));
  for (const event of /** @type {const} */ (["tidings:gap", "tidings:recovered"])) {
    channel.on(event, () => received.push(event.slice("tidings:".length)));
  }
  return received;
}

/**
 * Connected tabs that listen to `a:1`. The first one is the leader.
 *
 * @param {number} count
 * @param {(index: number) => import("../src/options.js").Options} [options]
 * @param {import("./memory_hub.js").HubOptions} [hubOptions]
 */
async function openTabs(count, options = () => ({}), hubOptions = {}) {
  const browser = new TestBrowser(() => 0.5, hubOptions);
  const tabs = Array.from({ length: count }, (_, index) => browser.open(options(index)));
  const received = tabs.map((tab) => listen(tab));
  await browser.clock.pass(100);
  const states = () => tabs.map((tab) => tab.hub.state);
  assert.deepEqual(new Set(states()), new Set(["connected"]));
  const publish = async (/** @type {unknown[]} */ ...datas) => {
    datas.forEach((data) => browser.server.publish("a:1", "e", data));
    await browser.clock.pass(100);
  };
  return { browser, server: browser.server, clock: browser.clock, tabs, received, states, publish };
}

describe("one connection", () => {
  test("serves all tabs, each with its own channels", async () => {
    const { server, tabs, received, publish } = await openTabs(3);
    const other = listen(tabs[2], "b:1");
    await publish(1);
    server.publish("b:1", "e", 2);
    await publish();
    assert.deepEqual([received, other], [[[1], [1], [1]], [2]]);
    assert.deepEqual([server.openedCount, server.connections.size], [1, 1]);
    assert.deepEqual(tabs.map(({ hub }) => [hub.user, hub.transport]), tabs.map(() => ["7", "websocket"]));
  });

  test("a killed tab is detected at once, and its channels are unsubscribed", async () => {
    const { server, clock, tabs } = await openTabs(2);
    listen(tabs[1], "b:1");
    await clock.pass(100);
    const subscribed = () => [...server.connections].flatMap((connection) => [...connection.channels]).sort();
    assert.deepEqual(subscribed(), ["a:1", "b:1", "user:7"]);
    tabs[1].kill();
    await clock.pass(100);
    assert.deepEqual(subscribed(), ["a:1", "user:7"]);
  });

  test("closing a hub affects only its own tab", async () => {
    const { server, clock, tabs, received, states, publish } = await openTabs(3);
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
    assert.deepEqual(received, [[1, "recovered", 2, 3], ["recovered", 1, 2, 3], [1, "recovered", 2, 3]]);
    tabs.forEach((tab) => tab.hub.close());
    await clock.pass(100);
    assert.equal(server.connections.size, 0);
  });

  test("a follower's publish is published once even if the leader is killed before the response", async () => {
    const { server, clock, tabs, received } = await openTabs(2, undefined, { delayMs: () => 5 });
    const receipt = tabs[1].hub.channel("a:1").publish("said", { toJSON: () => "hi" });
    await clock.pass(12);
    assert.equal(server.seq, 1);
    tabs[0].kill();
    await clock.pass(2000);
    assert.deepEqual(await receipt, { id: [...server.ids.keys()][0], cursor: "e.1", duplicate: true });
    assert.deepEqual([server.seq, received[1]], [1, ["recovered", "hi"]]);
  });
});

describe("a new leader", () => {
  test("takes over at once when the leader is killed, leaves or closes", async () => {
    for (const ending of /** @type {const} */ (["kill", "leave", "close"])) {
      const { server, clock, tabs, received, publish } = await openTabs(3);
      await publish(1);
      server.publish("a:1", "e", 2);
      if (ending === "close") {
        tabs[0].hub.close();
      } else {
        tabs[0][ending]();
      }
      server.publish("a:1", "e", 3);
      await clock.pass(20);
      await publish(4);
      assert.deepEqual(received.slice(1), [[1, "recovered", 2, 3, 4], [1, "recovered", 2, 3, 4]], ending);
      assert.equal(server.openedCount, 2);
    }
  });

  test("a page from the back/forward cache becomes a follower", async () => {
    const { server, clock, tabs, received, publish } = await openTabs(2);
    tabs[0].leave();
    await clock.pass(100);
    await publish(1);
    tabs[0].wake();
    await publish(2);
    assert.deepEqual(received, [["recovered", 1, 2], ["recovered", 1, 2]]);
    assert.equal(server.connections.size, 1);
  });

  test("ignores messages of a former leader", async () => {
    const { browser, clock, tabs, received, publish } = await openTabs(2);
    const formerLeader = tabs[0].api.channel("t");
    const messages = [];
    formerLeader.onmessage = ({ data }) => messages.push(data);
    await publish(1);
    const { to, events } = messages.find((message) => message.events !== undefined);
    formerLeader.postMessage({ from: "ghost", to, events: [{ ...events[0], values: [9, "a:1", "e.9"] }] });
    formerLeader.postMessage({ from: "ghost", lead: true });
    await publish(2);
    await clock.pass(1000);
    assert.deepEqual(received, [[1, 2], [1, "recovered", 2]]);
    assert.equal(browser.server.connections.size, 1);
  });

  test("after a lost connection one tab reconnects for all", async () => {
    const { server, clock, tabs, received, states, publish } = await openTabs(3);
    server.disconnectAll({});
    await clock.pass(0);
    assert.deepEqual(states(), ["waiting", "waiting", "waiting"]);
    server.publish("a:1", "e", 1);
    await clock.pass(20_000);
    await publish(2);
    assert.deepEqual(received, tabs.map(() => ["recovered", 1, 2]));
    assert.deepEqual([server.openedCount, server.connections.size], [2, 1]);
  });

  test("while the leader hangs the others connect themselves, and share again afterwards", async () => {
    const { server, clock, tabs, received, states, publish } = await openTabs(3);
    tabs[0].api.hangs = true;
    await publish(1);
    await clock.pass(60_000);
    assert.deepEqual(received, [[], ["recovered", 1], ["recovered", 1]]);
    assert.equal(server.connections.size, 3);
    tabs[0].kill();
    await clock.pass(1000);
    await publish(2);
    assert.deepEqual(received.slice(1), [["recovered", 1, "recovered", 2], ["recovered", 1, "recovered", 2]]);
    assert.deepEqual([server.connections.size, states().slice(1)], [1, ["connected", "connected"]]);
  });
});

describe("tokens", () => {
  /** Options that count the calls of `getToken` in each tab. `give` can be replaced. */
  function countingOptions() {
    const tokenCalls = [0, 0, 0];
    const application = { give: (/** @type {number} */ index) => /** @type {string | null} */ (`t${index}`) };
    const options = (/** @type {number} */ index) => ({
      getToken: async () => {
        tokenCalls[index] += 1;
        return application.give(index);
      },
    });
    return { tokenCalls, application, options };
  }

  test("are requested only by the leader", async () => {
    const { tokenCalls, options } = countingOptions();
    const { clock, tabs, publish, received } = await openTabs(3, options);
    assert.deepEqual(tokenCalls, [1, 0, 0]);
    await clock.pass(90_000);
    assert.deepEqual(tokenCalls, [2, 0, 0]);
    tabs[0].kill();
    await publish(1);
    assert.deepEqual([tokenCalls, received[2]], [[2, 1, 0], ["recovered", 1]]);
  });

  test("a leader without a token hands over; without any token all tabs close", async () => {
    const { tokenCalls, application, options } = countingOptions();
    application.give = (index) => {
      if (index === 0) {
        throw new Error("502");
      }
      return `t${index}`;
    };
    const browser = new TestBrowser();
    const tabs = [0, 1, 2].map((index) => browser.open(options(index)));
    await browser.clock.pass(5000);
    assert.deepEqual(tabs.map((tab) => tab.hub.state), ["connected", "connected", "connected"]);
    assert.deepEqual([tokenCalls, browser.server.connections.size], [[1, 1, 0], 1]);
    application.give = () => null;
    browser.server.disconnectAll({ code: "expired" });
    await browser.clock.pass(60_000);
    assert.deepEqual(tabs.map((tab) => tab.hub.error?.code), ["unauthorized", "unauthorized", "unauthorized"]);
    assert.equal(browser.server.connections.size, 0);
  });

  for (const wrong of ["<html>502</html>", { token: "t0" }]) {
    test(`a leader that gets ${typeof wrong === "string" ? "an error page" : "an object"} hands over`, async () => {
      const { application, options } = countingOptions();
      application.give = (index) => (index === 0 ? /** @type {string} */ (wrong) : `t${index}`);
      const browser = new TestBrowser();
      const tabs = [0, 1].map((index) => browser.open(options(index)));
      await browser.clock.pass(5000);
      assert.deepEqual(tabs.map((tab) => tab.hub.state), ["connected", "connected"]);
      application.give = () => /** @type {string} */ (wrong);
      browser.server.disconnectAll({ code: "expired" });
      await browser.clock.pass(60_000);
      assert.deepEqual(tabs.map((tab) => tab.hub.error?.code), ["no_token", "no_token"]);
    });
  }

  test("are requested by a tab that connects by itself", async () => {
    const { tokenCalls, options } = countingOptions();
    const may = ({ token }) => /^t\d$/.test(token);
    const { server, clock, tabs, publish, received } = await openTabs(2, options, { may });
    tabs[0].api.hangs = true;
    await clock.pass(60_000);
    await publish(1);
    assert.deepEqual([tokenCalls, received[1], server.connections.size], [[1, 1, 0], ["recovered", 1], 2]);
  });

  test("a new token changes the channel states in every tab", async () => {
    const { options } = countingOptions();
    let covered = ["a:1", "b:1"];
    const may = (_, name) => name.startsWith("user:") || covered.includes(name);
    const { clock, tabs } = await openTabs(2, options, { may });
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

describe("the next user", () => {
  /** Connected tabs of user `a`. `users` is the user of each tab: null is signed out, a promise is a slow answer. */
  async function openTabsOf(count = 2, shareTabs = "a") {
    const users = Array.from({ length: count }, () => /** @type {any} */ ("a"));
    const calls = users.map(() => 0);
    const options = (/** @type {number} */ index) => ({
      shareTabs,
      getToken: async () => {
        calls[index] += 1;
        const user = await users[index];
        return user === null ? null : tokenFor(user);
      },
    });
    const opened = await openTabs(count, options);
    const signedIn = () => opened.tabs.map(({ hub }) => [hub.state, hub.user]);
    const reconnect = async (/** @type {number} */ index, /** @type {any} */ user) => {
      opened.tabs[index].hub.close();
      users[index] = user;
      opened.tabs[index].hub.connect();
      await opened.clock.pass(2000);
    };
    return { ...opened, users, calls, signedIn, reconnect };
  }

  test("a tab that signs in as another user does not follow, and is not followed", async () => {
    for (const index of [0, 1]) {
      const { server, signedIn, reconnect, received, publish } = await openTabsOf();
      await reconnect(index, "b");
      const expected = [["connected", "a"], ["connected", "a"]];
      expected[index] = ["connected", "b"];
      assert.deepEqual([signedIn(), server.connections.size], [expected, 2]);
      received.forEach((list) => list.splice(0));
      await publish(1);
      assert.deepEqual(received, [[1], [1]]);
    }
  });

  test("a tab that signs out stays closed although another tab is connected", async () => {
    for (const index of [0, 1]) {
      const { tabs, signedIn, reconnect } = await openTabsOf();
      await reconnect(index, null);
      assert.deepEqual(signedIn()[index], ["closed", undefined]);
      assert.equal(tabs[index].hub.error?.code, "unauthorized");
      assert.deepEqual(signedIn()[1 - index], ["connected", "a"]);
    }
  });

  test("tabs of the new user share one connection; the first user's tabs keep theirs", async () => {
    const { server, signedIn, reconnect } = await openTabsOf(3);
    await reconnect(0, "b");
    await reconnect(2, "b");
    assert.deepEqual([signedIn().map(([, user]) => user), server.connections.size], [["b", "a", "b"], 2]);
  });

  test("the same user shares again after close()", async () => {
    const { server, signedIn, reconnect, calls } = await openTabsOf(2);
    await reconnect(1, "a");
    await reconnect(0, "a");
    assert.deepEqual(signedIn(), [["connected", "a"], ["connected", "a"]]);
    assert.deepEqual([server.connections.size, calls], [1, [2, 2]]);
  });

  test("a single tab with shareTabs requests a new token after close()", async () => {
    const { signedIn, reconnect, calls } = await openTabsOf(1);
    await reconnect(0, "b");
    assert.deepEqual([signedIn(), calls], [[["connected", "b"]], [2]]);
  });

  test("a slow getToken from before close() has no effect", async () => {
    const { tabs, clock, signedIn, users } = await openTabsOf();
    /** @type {(user: string) => void} */
    let resolveUser = () => {};
    tabs[1].hub.close();
    users[1] = new Promise((resolve) => {
      resolveUser = resolve;
    });
    tabs[1].hub.connect();
    await clock.pass(10);
    tabs[1].hub.close();
    users[1] = "b";
    tabs[1].hub.connect();
    await clock.pass(0);
    resolveUser("a");
    await clock.pass(2000);
    assert.deepEqual(signedIn(), [["connected", "a"], ["connected", "b"]]);
  });

  test("a leader whose token changes to another user leaves the group to its tabs", async () => {
    const { server, clock, signedIn, users } = await openTabsOf(3);
    users[0] = "b";
    await clock.pass(120_000);
    assert.deepEqual(signedIn().map(([, user]) => user), ["b", "a", "a"]);
    assert.equal(server.connections.size, 2);
  });

  test("a follower does not continue on the connection of another user", async () => {
    const { browser, tabs, clock, calls, signedIn } = await openTabsOf(2, "any");
    tabs[1].leave();
    tabs[0].kill();
    const other = browser.open({ shareTabs: "any", getToken: () => tokenFor("b") });
    await clock.pass(1000);
    const users = [];
    tabs[1].hub.on("state", () => users.push(tabs[1].hub.user));
    tabs[1].wake();
    await clock.pass(30_000);
    assert.deepEqual([signedIn()[1], other.hub.user, calls[1]], [["connected", "a"], "b", 1]);
    assert.deepEqual(new Set(users), new Set(["a"]));
  });
});

test("without browser support each tab has its own connection", () => {
  const environment = { open: () => ({ ask: async () => {}, close: () => {} }), watch: () => () => {} };
  // Node 20 has no Web Locks.
  const shared = share("https://push.example.org", /** @type {any} */ (environment), { shareTabs: true });
  assert.deepEqual([shared.open, shared.watch], [environment.open, environment.watch]);
});
