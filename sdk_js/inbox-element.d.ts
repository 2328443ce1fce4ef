// As inbox-element.js, for `moduleResolution: node10`.
export * from "./types/inbox_element.js";
