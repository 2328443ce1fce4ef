// One test for Vitest and Jest: both define `test` and `expect`.
import * as sdk from "tidings";
import "tidings/react";
import { useHub } from "./session.js";

test("the package works in a test runner", async () => {
  const result = await useHub(sdk, process.env.HUB_URL, process.env.HUB_TOKEN);
  expect(result).toEqual({ said: "hello", isMember: true, items: 1, code: "closed" });
}, 15_000);
