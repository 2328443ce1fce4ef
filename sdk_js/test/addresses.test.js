import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "../src/index.js";

// As in React Native and in a worker without an address: `connect` connects at once, and no page makes it absolute.
Object.assign(globalThis, { WorkerGlobalScope: class {} });

for (const url of ["/", "", "push.example.org", "ftp://push.example.org", "app://push", "https://[", "localhost:1"]) {
  for (const shareTabs of [false, true]) {
    test(`"${url}" is no address of a hub (shareTabs: ${shareTabs})`, async () => {
      const hub = connect(url, { shareTabs });
      const codes = [];
      hub.on("error", ({ code }) => codes.push(code));
      await new Promise((resolve) => {
        hub.on("state", (state) => state === "closed" && resolve(undefined));
      });
      assert.deepEqual([hub.error?.code, ...codes], ["bad_url", "bad_url"]);
      await assert.rejects(hub.channel("chat:1").publish("said", 1), { code: "bad_url" });
    });
  }
}

for (const url of ["http://127.0.0.1:9", "HTTPS://127.0.0.1:9/path", "ws://127.0.0.1:9", "wss://127.0.0.1:9"]) {
  test(`"${url}" is an address of a hub`, async () => {
    const hub = connect(url);
    const error = await new Promise((resolve) => {
      hub.on("error", resolve);
    });
    hub.close();
    assert.equal(error.code, "unreachable");
  });
}
