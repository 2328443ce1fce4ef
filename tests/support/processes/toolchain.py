"""The SDK as `npm pack` makes it, in a folder of applications that build, check or run it (tests/toolchains)."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, Route

from support.installed_programs import program
from support.processes.hub import ROOT

FOLDER = ROOT / "tests" / "toolchains"
# `next build` needs 13 s of CPU time.
TIMEOUT_S = 200.0
_BIN = FOLDER / "node_modules" / ".bin"
_APPS = ("app", "builds", "next", "runners")
_ENVIRONMENT = {"NEXT_TELEMETRY_DISABLED": "1"}


def tool(name: str) -> str:
    """The path of an installed tool."""
    path = _BIN / name
    if not path.exists():
        message = f"{path.relative_to(ROOT)} is missing; make setup installs it with npm"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return str(path)


class Workspace:
    """A copy of the applications, next to the package. Tools find their own packages in the folders above."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in _APPS:
            shutil.copytree(FOLDER / name, folder / name)
        self.package = folder / "node_modules" / "tidings"
        self._install()

    def _install(self) -> None:
        if not (ROOT / "sdk_js" / "types").is_dir():
            pytest.fail("the SDK is not built: run make setup")
        command = [program("npm"), "pack", "--ignore-scripts", "--silent", "--pack-destination", str(self.folder)]
        subprocess.run(command, cwd=ROOT / "sdk_js", check=True, capture_output=True, timeout=60)
        (archive,) = self.folder.glob("*.tgz")
        with tarfile.open(archive) as files:
            files.extractall(self.folder, filter="data")
        self.package.parent.mkdir()
        (self.folder / "package").rename(self.package)

    def environment(self, **values: str) -> dict[str, str]:
        """The environment of a tool."""
        return os.environ | _ENVIRONMENT | values

    def run(self, *command: str, cwd: str, **environment: str) -> str:
        """Run a command in one of the applications until it ends, and return its output."""
        done = subprocess.run(
            command,
            cwd=self.folder / cwd,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"{command} failed:\n{done.stdout}{done.stderr}"
        return done.stdout


@contextmanager
def workspace() -> Iterator[Workspace]:
    """A workspace that is removed at the end."""
    tool("esbuild")
    above = FOLDER / "build"
    above.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=above) as folder:
        yield Workspace(Path(folder))


def serve(context: BrowserContext, url: str, folder: Path) -> None:
    """Serve the files of a folder at the hub's address, to the pages of one browser context."""

    def respond(route: Route) -> None:
        path = urlsplit(route.request.url).path
        file = folder / (path.lstrip("/") or "index.html")
        if file.is_file():
            route.fulfill(path=file)
        else:
            route.continue_()

    context.route(f"{url}/**", respond)
