// No import circles in the SDK, including circles of types that JSDoc imports.
export default {
  forbidden: [
    { name: "no-circles", severity: "error", from: {}, to: { circular: true } },
    {
      name: "core-is-pure",
      comment: "The modules in core decide, without I/O: they import nothing from outside of core.",
      severity: "error",
      from: { path: "^src/core/" },
      to: { pathNot: "^src/core/" },
    },
    {
      name: "resolvable",
      severity: "error",
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    detectJSDocImports: true,
    doNotFollow: { path: "node_modules" },
    parser: "tsc",
    tsPreCompilationDeps: true,
  },
};
