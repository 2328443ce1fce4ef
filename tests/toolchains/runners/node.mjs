import * as sdk from "tidings";
import { connect } from "tidings/static";
import "tidings/react";
import manifest from "tidings/package.json" with { type: "json" };
import { useHub } from "./session.js";

const [, , url, token] = process.argv;
const results = [await useHub(sdk, url, token), await useHub({ ...sdk, connect }, url, token)];
console.log(JSON.stringify({ name: manifest.name, results }));
