"""The npm package in versions of Node, in test runners, and in an engine without a DOM, with a real hub."""

from __future__ import annotations

import json

import pytest

from support.installed_programs import program
from support.processes.hub import HubProcess, token
from support.processes.toolchain import FOLDER, TIMEOUT_S, Workspace, tool

RESULT = {"said": "hello", "isMember": True, "items": 1, "code": "closed"}

# A tool may take long while other tests use all processors.
pytestmark = pytest.mark.timeout(TIMEOUT_S + 60)


def node(version: str) -> str:
    """The Node on the path, or one that npm has installed: it has programs for some kinds of machine."""
    if version == "installed":
        return program("node")
    path = FOLDER / "node_modules" / f"node-{version}" / "bin" / "node"
    if not path.exists():
        pytest.skip(f"npm has no Node {version} for this machine")
    return str(path)


@pytest.mark.parametrize("file", ["node.mjs", "node.cjs"])
@pytest.mark.parametrize("version", ["installed", "22", "24"])
def test_node_loads_the_package_and_the_process_ends(version: str, file: str, work: Workspace, hub: HubProcess) -> None:
    user = f"node-{version}-{file}"
    output = work.run(node(version), file, hub.url, token(user, "orders:*"), cwd="runners")
    assert json.loads(output.splitlines()[-1]) == {"name": "tidings", "results": [RESULT, RESULT]}


class TestRunners:
    """Tests of an application. Vitest takes ES modules as they are."""

    def _environment(self, hub: HubProcess, user: str) -> dict[str, str]:
        return {"HUB_URL": hub.url, "HUB_TOKEN": token(user, "orders:*")}

    def test_vitest(self, work: Workspace, hub: HubProcess) -> None:
        output = work.run(tool("vitest"), "run", "--globals", cwd="runners", **self._environment(hub, "vitest"))
        assert "1 passed" in output

    def test_jest_with_es_modules(self, work: Workspace, hub: HubProcess) -> None:
        environment = self._environment(hub, "jest") | {"NODE_OPTIONS": "--experimental-vm-modules"}
        config = json.dumps({"transform": {}})
        work.run(tool("jest"), "--ci", "--watchman=false", f"--config={config}", cwd="runners", **environment)

    def test_jest_that_transforms_the_package(self, work: Workspace, hub: HubProcess) -> None:
        names = ("dynamic-import", "modules-commonjs")
        transform = {"plugins": [f"@babel/plugin-transform-{name}" for name in names]}
        config = {
            "transform": {r"\.js$": ["babel-jest", transform]},
            "transformIgnorePatterns": ["/node_modules/(?!tidings/)"],
        }
        command = [tool("jest"), "--ci", "--watchman=false", f"--config={json.dumps(config)}"]
        work.run(*command, cwd="runners", **self._environment(hub, "jest-transform"))


def test_engine_of_react_native_connects_lists_and_publishes(work: Workspace, hub: HubProcess) -> None:
    """It has no document, location, storage or crypto, and its bundler has no import()."""
    bundle = str(work.folder / "bare.js")
    fields = ["--platform=browser", "--main-fields=react-native,browser,main", "--conditions=require,react-native"]
    flags = ["--bundle", "--format=iife", "--supported:dynamic-import=false", f"--outfile={bundle}"]
    work.run(tool("esbuild"), "bare_entry.js", *fields, *flags, "--log-level=warning", cwd="runners")
    output = work.run(program("node"), "bare.cjs", bundle, hub.url, token("native", "orders:*"), cwd="runners")
    assert json.loads(output.splitlines()[-1]) == {**RESULT, "state": ["closed", "bad_url"]}
