// What one program does with a hub: it receives its own publish, a list and its members, and ends.
/**
 * @param {typeof import("tidings")} sdk
 * @param {string} url
 * @param {string} token
 */
export async function useHub({ connect, TidingsError }, url, token) {
  const hub = connect(url, { getToken: () => token });
  const room = hub.channel("room:1");
  const firstText = new Promise((resolve) => room.on("said", resolve));
  const members = new Promise((resolve) => {
    room.presence().subscribe((snapshot) => snapshot.state === "ready" && resolve(snapshot.members));
  });
  const orders = hub.collection("Order", { channel: "orders:all", load: () => [{ id: 1 }] });
  const items = new Promise((resolve) => {
    orders.subscribe((snapshot) => snapshot.state === "ready" && resolve(snapshot.items));
  });
  await Promise.all([members, items]);
  await room.publish("said", "hello");
  const isMember = (await members).some(({ user }) => user === hub.user);
  const result = { said: await firstText, isMember, items: (await items).length };
  hub.close();
  const code = await room.publish("said", "late").catch((error) => error instanceof TidingsError && error.code);
  return { ...result, code };
}
