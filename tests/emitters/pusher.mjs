// The npm package `pusher`, as a backend uses it. Argument: {app, calls: [[method, arguments]]} as JSON. Prints one line
// per call.
import Pusher from "pusher";

const { app, calls } = JSON.parse(process.argv[2]);
const pusher = new Pusher(app);
for (const [method, args] of calls) {
  try {
    const response = await pusher[method](...args);
    console.log(JSON.stringify({ status: response.status, body: await response.text() }));
  } catch (error) {
    console.log(JSON.stringify({ status: error.status, body: error.body }));
  }
}
