import assert from "node:assert/strict";
import { test } from "node:test";
import { SessionHarness, settle } from "./session_harness.js";

const LOCATION = "https://shop.example/tidings/jobs/7f";

/** A backend with one job. It answers each request at once, with what the test has set. */
class Backend {
  /** @type {string[]} */
  requests = [];
  /** @type {() => Response} */
  answer = () => this.waiting("queued");

  fetch = async (/** @type {any} */ url, /** @type {any} */ { method }) => {
    this.requests.push(`${method} ${url}`);
    return this.answer();
  };

  /**
   * @param {string} state
   * @param {number | null} progress
   */
  waiting(state, progress = null, message = "") {
    const body = { id: "7f", location: "/tidings/jobs/7f", state, progress, message };
    return Response.json(body, { status: 202, headers: { "Tidings-Job": state } });
  }

  /**
   * @param {string} state
   * @param {number} status
   * @param {object} body
   */
  ended(state, status, body) {
    return Response.json(body, { status, headers: { "Tidings-Job": state } });
  }
}

/** @param {string} [location] */
async function begin(location = LOCATION, options = {}) {
  const harness = new SessionHarness(options);
  const backend = new Backend();
  const job = await harness.hub.job(location, { fetch: backend.fetch });
  /** @type {any[]} */
  const snapshots = [];
  job.subscribe((snapshot) => snapshots.push(snapshot));
  await settle();
  return { harness, backend, job, snapshots };
}

/**
 * @param {SessionHarness} harness
 * @param {object} data
 */
async function emitJob(harness, data, seq = 1) {
  const body = { id: "7f", location: "/tidings/jobs/7f", progress: null, message: "", ...data };
  harness.link.emit("tidings:job", body, "user:7", `e.${seq}`);
  await settle();
}

test("a job shows the events of the user's channel, and has the response at the end", async () => {
  const { harness, backend, job } = await begin();
  await harness.link.accept();
  await harness.clock.pass(0);
  const before = backend.requests.length;
  await emitJob(harness, { state: "running", progress: 0.4, message: "rendering" });
  const { state, progress, message } = job.getSnapshot();
  assert.deepEqual([state, progress, message], ["running", 0.4, "rendering"]);
  assert.equal(backend.requests.length, before, "an event of progress needs no request");
  await emitJob(harness, { id: "other", state: "done" }, 2);
  assert.equal(backend.requests.length, before, "the event of another job is ignored");
  backend.answer = () => backend.ended("done", 201, { id: 9 });
  await emitJob(harness, { state: "done" }, 3);
  const response = await job.done;
  assert.deepEqual([response.status, await response.json()], [201, { id: 9 }]);
  assert.equal(job.getSnapshot().response, response);
  assert.equal(job.getSnapshot().state, "done");
  const after = backend.requests.length;
  await emitJob(harness, { state: "running" }, 4);
  await harness.clock.pass(60_000);
  assert.equal(backend.requests.length, after, "nothing is requested after the end");
  assert.equal(job.getSnapshot().state, "done");
});

test("a job that had ended before has its response with the first request", async () => {
  const harness = new SessionHarness();
  const backend = new Backend();
  backend.answer = () => new Response(null, { status: 204, headers: { "Tidings-Job": "done" } });
  const job = await harness.hub.job(new URL(LOCATION), { fetch: backend.fetch });
  assert.equal((await job.done).status, 204);
  assert.deepEqual(backend.requests, [`GET ${LOCATION}`]);
});

test("without a connection the location is polled", async () => {
  const { harness, backend, job } = await begin();
  backend.answer = () => backend.waiting("running", 0.2);
  await harness.clock.pass(2000);
  assert.equal(job.getSnapshot().progress, 0.2);
  backend.answer = () => backend.ended("done", 200, {});
  await harness.clock.pass(2000);
  assert.equal(job.getSnapshot().state, "done");
});

test("after a gap and after a reconnect the location is requested", async () => {
  const { harness, backend, job } = await begin();
  await harness.link.accept();
  await harness.clock.pass(0);
  backend.answer = () => backend.waiting("running", 0.2);
  harness.link.emit("tidings:gap", { cursor: "e.9", channels: { "user:7": { recovered: false } } }, "e.9");
  await settle();
  assert.equal(job.getSnapshot().progress, 0.2);
  await harness.link.disconnect();
  backend.answer = () => backend.waiting("running", 0.3);
  await harness.clock.pass(1000);
  await harness.link.accept();
  assert.equal(job.getSnapshot().progress, 0.3);
});

test("a missed event is found within 15 seconds", async () => {
  const { harness, backend, job } = await begin();
  await harness.link.accept();
  await harness.clock.pass(0);
  backend.answer = () => backend.ended("done", 200, {});
  await harness.clock.pass(14_000);
  assert.equal(job.getSnapshot().state, "queued");
  await harness.clock.pass(2000);
  assert.equal(job.getSnapshot().state, "done");
});

test("a failed job rejects with the code and the id of the log", async () => {
  const { harness, backend, job, snapshots } = await begin();
  backend.answer = () => backend.ended("failed", 500, { code: "internal", message: "It failed.", error_id: "5f3a" });
  await harness.clock.pass(2000);
  await assert.rejects(job.done, { name: "TidingsError", code: "internal", message: "It failed. (error_id 5f3a)" });
  assert.equal(snapshots.at(-1).state, "failed");
  assert.equal(snapshots.at(-1).error.code, "internal");
});

test("cancel sends DELETE, and the job rejects with cancelled", async () => {
  const { harness, backend, job } = await begin();
  backend.answer = () => backend.waiting("running");
  await job.cancel();
  assert.ok(backend.requests.includes(`DELETE ${LOCATION}`));
  backend.answer = () => backend.ended("cancelled", 410, { code: "cancelled", message: "Cancelled." });
  await harness.clock.pass(2000);
  await assert.rejects(job.done, { code: "cancelled" });
  assert.equal(job.getSnapshot().state, "cancelled");
});

test("a refused cancel rejects", async () => {
  const { backend, job } = await begin();
  backend.answer = () => Response.json({ code: "not_found", message: "No job." }, { status: 404 });
  await assert.rejects(job.cancel(), { code: "not_found" });
});

for (const [status, body] of /** @type {const} */ ([[404, '{"code": "not_found"}'], [401, "<h1>sign in</h1>"]])) {
  test(`a location that answers ${status} ends the job`, async () => {
    const { harness, backend, job } = await begin();
    backend.answer = () => new Response(body, { status });
    await harness.clock.pass(2000);
    await assert.rejects(job.done, { code: status === 404 ? "not_found" : "bad_response" });
    assert.equal(job.getSnapshot().state, "failed");
  });
}

test("a backend that does not answer is tried again", async () => {
  const { harness, backend, job } = await begin();
  backend.answer = () => {
    throw new TypeError("Failed to fetch");
  };
  await harness.clock.pass(2000);
  assert.equal(job.getSnapshot().error?.code, "unreachable");
  backend.answer = () => new Response("<h1>Bad gateway</h1>", { status: 502 });
  await harness.clock.pass(2000);
  assert.equal(job.getSnapshot().error?.code, "bad_response");
  backend.answer = () => backend.waiting("running", 0.5);
  await harness.clock.pass(2000);
  assert.deepEqual([job.getSnapshot().state, job.getSnapshot().error], ["running", undefined]);
  backend.answer = () => backend.ended("done", 200, {});
  await harness.clock.pass(2000);
  assert.equal((await job.done).status, 200);
});

test("a job that is closed requests nothing, and goes on", async () => {
  const { harness, backend, job } = await begin();
  await harness.link.accept();
  job.close();
  const before = backend.requests.length;
  await harness.clock.pass(60_000);
  assert.equal(backend.requests.length, before);
  assert.equal(harness.clock.running <= 2, true, "only timers of the session are left");
});

test("a listener that is removed is not called", async () => {
  const { harness, backend, job } = await begin();
  let calls = 0;
  const off = job.subscribe(() => {
    calls += 1;
  });
  assert.equal(calls, 1);
  off();
  backend.answer = () => backend.waiting("running", 0.5);
  await harness.clock.pass(2000);
  assert.equal(calls, 1);
});

test("the event of a job is a publication of the user's channel, and no other event of the hub is", async () => {
  const harness = new SessionHarness();
  /** @type {unknown[]} */
  const events = [];
  harness.hub.channel("user:7").on("*", (data, { event, cursor }) => events.push([event, data, cursor]));
  await settle();
  await harness.link.accept();
  harness.link.emit("tidings:job", { id: "7f" }, "user:7", "e.1");
  harness.link.emit("tidings:job", { id: "7f" }, "user:7", "e.1");
  harness.link.emit("tidings:jobs", { id: "7f" }, "user:7", "e.2");
  harness.link.emit("tidings:join", { members: [] }, "user:7", "e.3");
  await settle();
  assert.deepEqual(events, [["tidings:job", { id: "7f" }, "e.1"]]);
});

for (const isClosed of [true, false]) {
  test(`the job of a user ends when another one signs in, ${isClosed ? "after" : "without"} a close`, async () => {
    const { harness, backend, job } = await begin(LOCATION, { getToken: () => "t" });
    await harness.link.accept();
    await emitJob(harness, { state: "running", progress: 0.5, message: "of user 7" });
    /** @type {(response: Response) => void} */
    let respond = () => {};
    backend.answer = () => /** @type {any} */ (new Promise((resolve) => {
      respond = resolve;
    }));
    const reconnect = () => (isClosed ? harness.hub.close() : harness.link.disconnect({ code: "disconnected" }));
    await reconnect();
    harness.hub.connect();
    await settle();
    const rejection = assert.rejects(job.done, { code: "closed" });
    await harness.link.accept({ user: "8", channels: { "user:8": {} } });
    await rejection;
    const { requests } = backend;
    requests.length = 0;
    // The answer to the request that was on its way shows nothing of user 7 either.
    respond(backend.waiting("running", 0.7, "of user 7"));
    await harness.clock.pass(60_000);
    const { state, progress, message, response, error } = job.getSnapshot();
    assert.deepEqual([state, progress, message, response, error?.code], ["failed", null, "", undefined, "closed"]);
    assert.deepEqual(requests, []);
  });
}

test("a job goes on when its own user connects again", async () => {
  const { harness, backend, job } = await begin(LOCATION, { getToken: () => "t" });
  await harness.link.accept();
  harness.hub.close();
  harness.hub.connect();
  await settle();
  await harness.link.accept();
  backend.answer = () => backend.ended("done", 200, { ok: true });
  await harness.clock.pass(20_000);
  assert.deepEqual(await (await job.done).json(), { ok: true });
});
