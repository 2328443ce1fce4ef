// As static.js, for `moduleResolution: node10`.
export * from "./types/static.js";
