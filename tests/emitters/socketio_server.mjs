// A Socket.IO server behind @socket.io/redis-adapter. Clients join the rooms in their auth; the adapter requests data from its peers.
// Argument: {port} of Redis as JSON. Prints {port}, then {fetched} for each line of input.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { createAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const url = `redis://127.0.0.1:${JSON.parse(process.argv[2]).port}`;
const publisher = createClient({ url });
const subscriber = publisher.duplicate();
await Promise.all([publisher.connect(), subscriber.connect()]);

const http = createServer();
const server = new Server(http, { adapter: createAdapter(publisher, subscriber, { requestsTimeout: 1000 }) });
server.on("connection", (socket) => {
  socket.join(socket.handshake.auth.rooms ?? []);
  socket.emit("joined");
});
http.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: http.address().port })));

for await (const line of createInterface({ input: process.stdin })) {
  const started = Date.now();
  try {
    const sockets = await server.in(line).fetchSockets();
    console.log(JSON.stringify({ fetched: sockets.length, ms: Date.now() - started }));
  } catch (error) {
    console.log(JSON.stringify({ failed: error.message }));
  }
}
process.exit(0);
