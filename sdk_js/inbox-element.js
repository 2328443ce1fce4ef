// For tools that do not read `exports` of package.json, such as Parcel: `tidings/inbox-element` is this file.
export * from "./src/inbox_element.js";
