// A stock client of a Socket.IO server. Argument: {port, rooms} as JSON. Prints {joined}, then each event.
import { io } from "socket.io-client";

const { port, rooms } = JSON.parse(process.argv[2]);
const socket = io(`http://127.0.0.1:${port}`, { auth: { rooms }, transports: ["websocket"] });
socket.on("joined", () => console.log(JSON.stringify({ joined: true })));
socket.onAny((event, ...values) => {
  if (event !== "joined") console.log(JSON.stringify({ event, given: values }));
});
