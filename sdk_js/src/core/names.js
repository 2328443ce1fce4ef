import { TidingsError } from "./error.js";

const CHANNEL = /^[\w-]{1,64}:[\w.:@|=+~!$-]{1,135}$/;

/**
 * Validates a channel name (PROTOCOL.md section 2). The hub validates all other input.
 *
 * @param {unknown} name
 * @returns {string} `name` itself
 * @throws {TidingsError} `bad_channel`
 */
export function checkChannel(name) {
  if (typeof name !== "string" || !CHANNEL.test(name)) {
    throw new TidingsError("bad_channel", `"${name}" is not namespace:name, at most 200 characters`);
  }
  return name;
}
