// Node loads ES modules with require() from 20.19 and 22.12 on.
const sdk = require("tidings");
const { connect } = require("tidings/static");
require("tidings/react");
const { name } = require("tidings/package.json");

const [, , url, token] = process.argv;

async function run() {
  const { useHub } = await import("./session.js");
  const results = [await useHub(sdk, url, token), await useHub({ ...sdk, connect }, url, token)];
  console.log(JSON.stringify({ name, results }));
}

run();
