// For tools that do not read `exports` of package.json, such as Parcel: `tidings/react` is this file.
export * from "./src/react.js";
