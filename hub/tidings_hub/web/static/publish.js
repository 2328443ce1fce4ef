/** @typedef {import("tidings").Receipt} Receipt */

/**
 * Publishes as a backend does, over HTTP (/api/openapi.json): a channel need not let its subscribers.
 *
 * @param {{channel: string, event: string, data: unknown}} publication
 * @param {string} key an API key, or empty
 * @returns {Promise<Receipt>} rejects with what the hub said against it
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
    throw new Error("The hub cannot be reached.", { cause });
  }
  const body = await response.json();
  if (!response.ok) {
    throw new Error(body.error.message);
  }
  return body;
}
