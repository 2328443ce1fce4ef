import * as sdk from "tidings";
import { useHub } from "./session.js";

globalThis.run = async (url, token) => {
  const relative = sdk.connect("/");
  const result = await useHub(sdk, url, token);
  return { ...result, state: [relative.state, relative.error?.code] };
};
