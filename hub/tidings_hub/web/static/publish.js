/** @typedef {import("tidings").Receipt} Receipt */

/**
 * Publishes over the HTTP API (/api/openapi.json), as a backend does. The channel may forbid publishing by subscribers.
 *
 * @param {{channel: string, event: string, data: unknown}} publication
 * @param {string} key an API key, or empty
 * @returns {Promise<Receipt>} rejects with the hub's error message
 */
export async function publish(publication, key) {
  const headers = new Headers({ "Content-Type": "application/json" });
  if (key !== "") {
    headers.set("Authorization", `Bearer ${key}`);
  }
  let response;
  try {
    response = await fetch("/api/publish", { method: "POST", headers, body: JSON.stringify(publication) });
  } catch (cause) {
    throw new Error("The hub is unreachable.", { cause });
  }
  const body = await response.json();
  if (!response.ok) {
    throw new Error(body.error.message);
  }
  return body;
}
