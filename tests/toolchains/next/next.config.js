// The root is the folder that has node_modules, also when this folder was copied to build/.
const root = new URL("../../..", import.meta.url).pathname;

export default { output: "export", turbopack: { root } };
