// For tools that do not read `exports` of package.json, such as Parcel: `tidings/static` is this file.
export * from "./src/static.js";
