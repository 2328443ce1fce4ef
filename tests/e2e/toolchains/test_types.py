"""The types of the npm package, under each `moduleResolution` of TypeScript."""

from __future__ import annotations

import shutil

import pytest

from support.processes.hub import ROOT
from support.processes.toolchain import TIMEOUT_S, Workspace, tool

USE = ROOT / "sdk_js" / "test" / "types" / "use.ts"
STRICT = (
    *("--noEmit", "--strict", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess"),
    # The types of the package are checked, those of TypeScript itself are not.
    *("--skipLibCheck", "false", "--skipDefaultLibCheck", "--target", "es2022", "--lib", "es2023,dom"),
)
# The ending of the files, and the flags. A CommonJS module may require() an ES module under `nodenext`. Under `node16`
# it needs import(), as in `lazy`.
RESOLUTIONS = {
    "node10": ("ts", "--module commonjs --moduleResolution node10 --esModuleInterop --ignoreDeprecations 6.0"),
    "node16": ("mts", "--module node16 --moduleResolution node16"),
    "nodenext": ("mts", "--module nodenext --moduleResolution nodenext"),
    "nodenext-commonjs": ("cts", "--module nodenext --moduleResolution nodenext"),
    "bundler": ("ts", "--module esnext --moduleResolution bundler --types vite/client"),
}
MORE = {
    "node16": (
        "lazy.cts",
        """
        import type { Hub } from "tidings" with { "resolution-mode": "import" };
        async function open(): Promise<Hub> {
          const { connect } = await import("tidings");
          const { useChannel } = await import("tidings/react");
          console.log(useChannel);
          return connect("/");
        }
        void open().then(({ state }) => console.log(state));
        """,
    ),
    "bundler": (
        "hot.ts",
        """
        import { connect } from "tidings/static";
        export const hub = connect("/", { hot: import.meta.hot });
        """,
    ),
}

# A tool may take long while other tests use all processors.
pytestmark = pytest.mark.timeout(TIMEOUT_S + 60)


@pytest.mark.parametrize("name", RESOLUTIONS)
def test_types_work_under_each_resolution(name: str, work: Workspace) -> None:
    ending, flags = RESOLUTIONS[name]
    folder = work.folder / name
    folder.mkdir()
    (folder / "package.json").write_text('{ "name": "typed", "private": true }')
    files = [f"use.{ending}"]
    shutil.copy(USE, folder / files[0])
    for file, text in [MORE[name]] if name in MORE else []:
        (folder / file).write_text(text)
        files.append(file)
    work.run(tool("tsc"), *STRICT, *flags.split(), *files, cwd=name)
