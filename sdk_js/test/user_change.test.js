import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SessionHarness, settle } from "./session_harness.js";

const REFUSED = { error: { code: "forbidden", message: "Not yours." } };
const GRANTED = { recovered: true };

/**
 * Answers requests until there are none any more: the members are those of user 7.
 *
 * @param {SessionHarness} harness
 */
async function serve(harness) {
  const presence = { "room:1": { recovered: false } };
  const responses = {
    "tidings:subscribe": { cursor: "e.0", channels: {}, presence },
    "tidings:presence": { cursor: "e.1", count: 1, members: [{ user: "ann" }] },
  };
  await harness.session.presenceLoading;
  for (let round = 0; round < 5; round += 1) {
    await harness.clock.pass(100);
    harness.link.requests.splice(0).forEach(({ event, respond }) => respond(responses[event]));
  }
}

/** @param {string[]} users those of the tokens */
function harnessOf(...users) {
  const tokens = users.map((sub) => `h.${btoa(JSON.stringify({ sub })).replaceAll("=", "")}.s`);
  return new SessionHarness({ getToken: () => tokens.shift() });
}

/** A list and members that user 7 sees. Only the first load of the list succeeds. */
async function begin() {
  const harness = new SessionHarness({ getToken: () => "t" });
  const loads = [[{ id: 1 }]];
  const load = () => loads.shift() ?? Promise.reject(new Error("Not yours."));
  const list = harness.hub.collection("Order", { channel: "orders:1", load });
  const presence = harness.hub.channel("room:1").presence();
  list.subscribe(() => {});
  presence.subscribe(() => {});
  await settle();
  await harness.link.accept();
  await serve(harness);
  const shown = () => [list.getSnapshot().items.length, presence.getSnapshot().members?.length ?? 0];
  assert.deepEqual(shown(), [1, 1]);
  return { harness, shown };
}

/**
 * The hub ends the connection, and the next token is that of user 8.
 *
 * @param {SessionHarness} harness
 * @param {object} result of both channels
 */
async function connectAsOther(harness, result) {
  await harness.link.disconnect({ code: "disconnected" });
  await harness.clock.pass(20_000);
  const channels = { "user:8": {}, "orders:1": { ...result }, "room:1": { ...result } };
  await harness.link.accept({ user: "8", channels, presence: { "room:1": { ...result } } });
}

describe("another user without a close", () => {
  for (const [what, result] of [["granted", GRANTED], ["refused", REFUSED]]) {
    test(`lists and members show nothing of the last user: channels ${what}`, async () => {
      const { harness, shown } = await begin();
      await connectAsOther(harness, result);
      assert.equal(harness.hub.user, "8");
      assert.deepEqual(shown(), [0, 0]);
      await harness.clock.pass(5000);
      assert.deepEqual(shown(), [0, 0]);
    });
  }

  test("the same user keeps what is shown", async () => {
    const { harness, shown } = await begin();
    await harness.link.disconnect({ code: "disconnected" });
    await harness.clock.pass(20_000);
    await harness.link.accept({ presence: { "room:1": GRANTED } });
    assert.deepEqual(shown(), [1, 1]);
  });

  test("a listener that closes the hub then closes it", async () => {
    const { harness } = await begin();
    harness.hub.channel("orders:1").on("tidings:state", (state, error) => error && harness.hub.close());
    await connectAsOther(harness, GRANTED);
    assert.deepEqual([harness.hub.state, harness.hub.user, harness.link.isClosed], ["closed", undefined, true]);
    assert.equal(harness.hub.channel("orders:1").state, "idle");
  });

  test("a publish that still waits for the kept queue is not sent by the next user", async () => {
    const harness = harnessOf("7", "8");
    /** @type {(queue?: undefined) => void} */
    let open = () => {};
    harness.session.keptQueue = new Promise((resolve) => {
      open = resolve;
    });
    await settle();
    await harness.link.accept();
    const rejection = assert.rejects(harness.hub.channel("room:1").publish("said", 1), { code: "closed" });
    await connectAsOther(harness, GRANTED);
    open();
    await rejection;
    assert.equal(harness.link.requests.some(({ event }) => event === "tidings:publish"), false);
  });
});

/**
 * The hub has no connection yet when user 7 wants a job and signs out. Then a user signs in.
 *
 * @param {string} next
 * @param {(job: Promise<any>) => Promise<unknown>} meanwhile before the first one signs out
 */
async function connectDuringJob(next, meanwhile) {
  const harness = harnessOf("7", next);
  await settle();
  let requests = 0;
  const fetch = async () => {
    requests += 1;
    return Response.json({ state: "running" }, { status: 202, headers: { "Tidings-Job": "running" } });
  };
  const beginning = harness.hub.job("https://shop.example/tidings/jobs/7f", { fetch });
  await meanwhile(beginning);
  harness.hub.close();
  harness.hub.connect();
  const job = await beginning;
  await settle();
  await harness.link.accept({ user: next, channels: { [`user:${next}`]: {} } });
  const before = requests;
  await harness.clock.pass(60_000);
  return { ...job.getSnapshot(), isRequested: requests > before };
}

describe("a job without a connection", () => {
  for (const [when, meanwhile] of [
    ["before its code is loaded", async () => {}],
    ["before the first connection", (/** @type {Promise<any>} */ job) => job],
  ]) {
    test(`its user signs out ${when}, and it ends when another one is connected`, async () => {
      const { state, error, isRequested } = await connectDuringJob("8", meanwhile);
      assert.deepEqual([state, error?.code, isRequested], ["failed", "closed", false]);
    });

    test(`its user signs out ${when}, and it goes on when the same one is connected`, async () => {
      const { state, error, isRequested } = await connectDuringJob("7", meanwhile);
      assert.deepEqual([state, error, isRequested], ["running", undefined, true]);
    });
  }
});
