// stream.mjs URL TOKEN: prints the text of an event stream as fetch of Node returns it.
const [, , url, token] = process.argv;
const response = await fetch(url, { headers: { Authorization: `Bearer ${token}` } });
const decoder = new TextDecoder();
for await (const part of response.body) process.stdout.write(decoder.decode(part, { stream: true }));
console.log("end");
