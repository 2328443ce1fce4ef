// Usage: node webpack.js ENTRY FOLDER
import webpack from "webpack";

const [, , entry, path] = process.argv;
const output = { path, filename: "page.js" };
const compiler = webpack({ mode: "production", entry, output, optimization: { minimize: false }, performance: false });
compiler.run((failure, result) => {
  const { errors = [], warnings = [] } = result?.toJson({ all: false, errors: true, warnings: true }) ?? {};
  for (const { message } of [failure, ...errors, ...warnings].filter(Boolean)) {
    console.error(message);
    process.exitCode = 1;
  }
  compiler.close(() => {});
});
