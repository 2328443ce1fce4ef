import js from "@eslint/js";
import globals from "globals";

export default [
  { ignores: ["**/node_modules/**", "**/vendor/**", "**/dist/**", "sdk_js/types/**"] },
  js.configs.recommended,
  {
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      "array-callback-return": "error",
      complexity: ["error", 10],
      "consistent-return": "error",
      curly: "error",
      "default-case-last": "error",
      eqeqeq: "error",
      "func-style": ["error", "declaration", { allowArrowFunctions: true }],
      "max-depth": ["error", 3],
      "max-len": ["error", { code: 120, ignoreTemplateLiterals: false }],
      "max-lines": ["error", 300],
      "max-lines-per-function": ["error", 60],
      "max-params": ["error", 6],
      "no-console": "off",
      "no-eval": "error",
      "no-implicit-coercion": "error",
      "no-implied-eval": "error",
      "no-param-reassign": "error",
      "no-promise-executor-return": "error",
      "no-shadow": "error",
      "no-throw-literal": "error",
      "no-unused-expressions": "error",
      "no-use-before-define": ["error", { functions: false }],
      "no-var": "error",
      "object-shorthand": "error",
      "prefer-const": "error",
      "prefer-template": "off",
      radix: "error",
    },
  },
  {
    files: ["hub/**/*.js"],
    languageOptions: { globals: globals.browser },
    rules: {
      // What comes over the wire is text, never markup.
      "no-restricted-properties": [
        "error",
        ...["innerHTML", "outerHTML", "insertAdjacentHTML"].map((property) => ({ property })),
      ],
    },
  },
  {
    files: ["examples/**/*.js"],
    languageOptions: { globals: { ...globals.browser, tidings: "readonly" }, sourceType: "script" },
  },
  { files: ["sdk_js/**/*.js"], ignores: ["sdk_js/src/**"], languageOptions: { globals: globals.node } },
  {
    // A suite is one long function; its tests are short.
    files: ["sdk_js/test/**/*.js"],
    rules: { "max-lines": "off", "max-lines-per-function": "off" },
  },
  // What browsers and Node share, and what the SDK asks for before it uses it.
  { files: ["sdk_js/src/**/*.js"], languageOptions: { globals: globals.browser } },
];
