// As react.js, for `moduleResolution: node10`.
export * from "./types/react.js";
