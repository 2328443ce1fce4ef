// The npm package `pusher`, as a backend uses it. Argument: {app, calls: [[method, arguments]]} as JSON; one line per call.
import Pusher from "pusher";

const { app, calls } = JSON.parse(process.argv[2]);
const pusher = new Pusher(app);
for (const [method, given] of calls) {
  try {
    const answer = await pusher[method](...given);
    console.log(JSON.stringify({ status: answer.status, body: await answer.text() }));
  } catch (error) {
    console.log(JSON.stringify({ status: error.status, body: error.body }));
  }
}
