/*
 * The Node peer: socket.io with @socket.io/redis-adapter, tuned as its documentation's
 * "Performance tuning" and "Memory usage" pages advise: no per-message deflate (the
 * default), bufferutil installed, the first HTTP request released.
 *
 *   node node_server.js REDIS_URL SECRET     prints {"port": N}
 *
 * A client authenticates with {"token", "channels"} in its CONNECT packet, joins a room
 * per channel and a room for its user.
 */
"use strict";

const http = require("node:http");
const { createAdapter } = require("@socket.io/redis-adapter");
const jwt = require("jsonwebtoken");
const { createClient } = require("redis");
const { Server } = require("socket.io");

async function main(redisUrl, secret) {
  const publisher = createClient({ url: redisUrl });
  const subscriber = publisher.duplicate();
  await Promise.all([publisher.connect(), subscriber.connect()]);
  const server = http.createServer();
  const io = new Server(server, {
    adapter: createAdapter(publisher, subscriber),
    perMessageDeflate: false,
    httpCompression: false,
    serveClient: false,
  });
  io.engine.on("connection", (rawSocket) => {
    rawSocket.request = null;
  });
  io.use((socket, next) => {
    jwt.verify(socket.handshake.auth.token, secret, { algorithms: ["HS256"] }, (error, claims) => {
      if (!error) socket.data.user = claims.sub;
      next(error ?? undefined);
    });
  });
  io.on("connection", (socket) => {
    socket.join([`user:${socket.data.user}`, ...(socket.handshake.auth.channels ?? [])]);
  });
  server.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () => {
    console.log(JSON.stringify({ port: server.address().port }));
  });
}

main(...process.argv.slice(2));
