// For tools that do not read `exports` of package.json, such as Parcel: `tidings/react-inbox` is this file.
export * from "./src/react_inbox.js";
