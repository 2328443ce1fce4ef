// The push service of the package web-push-testing, over TLS: it checks tokens, and decrypts as browsers do.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:https";

const require = createRequire(import.meta.url);
const { PushApiModel } = require("web-push-testing/src/PushApiModel.js");
const WebPushTestingServer = require("web-push-testing/src/server.js");

const { certificate, key } = JSON.parse(process.argv[2]);
const model = new PushApiModel();
const testing = new WebPushTestingServer(model, 0);
testing.setRequestHandlers();
const options = { cert: readFileSync(certificate), key: readFileSync(key) };
const server = createServer(options, testing._app).listen(0, "127.0.0.1", () => {
  const { port } = server.address();
  model.notifyUrl = `https://127.0.0.1:${port}/notify/`;
  console.log(JSON.stringify({ port }));
});
