/**
 * What the page asks over HTTP. See /api/openapi.json.
 *
 * @typedef {{id: string, cursor: string, duplicate: boolean}} Receipt
 * @typedef {{event: string, data: unknown, id: string, cursor: string, at_ms: number}} Kept
 */

/** An answer that is not a success: `code` is a name of the hub's table of codes. */
export class Refused extends Error {
  /**
   * @param {string} code
   * @param {string} message
   */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/**
 * @param {string} path
 * @param {RequestInit} options
 * @param {string} key an API key, or empty
 * @returns {Promise<any>}
 */
async function ask(path, options, key) {
  const headers = new Headers(options.headers);
  if (key !== "") {
    headers.set("Authorization", `Bearer ${key}`);
  }
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Refused("unavailable", "The hub cannot be reached.");
  }
  const body = await response.json();
  if (!response.ok) {
    throw new Refused(body.error.code, body.error.message);
  }
  return body;
}

/**
 * @param {{channel: string, event: string, data: unknown}} publication
 * @param {string} key
 * @returns {Promise<Receipt>}
 */
export function publish(publication, key) {
  const headers = { "Content-Type": "application/json" };
  return ask("/api/publish", { method: "POST", headers, body: JSON.stringify(publication) }, key);
}

/**
 * The last publications of a channel that the hub keeps.
 *
 * @param {string} channel
 * @param {number} limit
 * @param {string} key
 * @returns {Promise<Kept[]>}
 */
export async function newest(channel, limit, key) {
  const path = `/api/channels/${encodeURIComponent(channel)}/history?newest=true&limit=${limit}`;
  return (await ask(path, {}, key)).publications;
}
