// As react-inbox.js, for `moduleResolution: node10`.
export * from "./types/react_inbox.js";
