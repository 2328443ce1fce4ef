"""A page that imports the npm package, built by each bundler, in Chromium with a real hub."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from support.installed_programs import program
from support.ports import free_port
from support.processes.hub import HubProcess, token
from support.processes.toolchain import TIMEOUT_S, Workspace, serve, tool
from support.waiting import wait_until

TIMEOUT_MS = 30_000
BUNDLERS = ["vite", "webpack", "rollup", "esbuild", "parcel", "next"]

# A tool may take long while other tests use all processors.
pytestmark = pytest.mark.timeout(TIMEOUT_S + 60)


def opened_connections(hub: HubProcess) -> float:
    """How many connections the hub has had."""
    return hub.metric("tidings_opened_websocket_total") + hub.metric("tidings_opened_polling_total")


def is_open(url: str) -> bool:
    """Whether a server listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) == 0


@contextmanager
def opened(
    browser: Browser, url: str, folder: Path | None = None, **values: object
) -> Iterator[tuple[Page, list[str]]]:
    """A page, and what went wrong in it. `values` are global variables of it."""
    context = browser.new_context()
    if folder is not None:
        serve(context, url, folder)
    context.add_init_script(f"Object.assign(globalThis, {json.dumps(values)})")
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda line: line.type in ("error", "warning") and problems.append(line.text))
    page.goto(url)
    yield page, problems
    context.close()


def build(work: Workspace, bundler: str) -> Path:
    """Build the page and return the folder of its files."""
    out = work.folder / "out" / bundler
    node, page = program("node"), "page.js"
    if bundler == "vite":
        work.run(tool("vite"), "build", "--outDir", str(out), "--emptyOutDir", "--logLevel", "warn", cwd="app")
    elif bundler == "parcel":
        cache = str(work.folder / "parcel-cache")
        work.run(tool("parcel"), "build", "index.html", "--dist-dir", str(out), "--cache-dir", cache, cwd="app")
    elif bundler == "next":
        work.run(tool("next"), "build", cwd="next")
        return work.folder / "next" / "out"
    else:
        commands = {
            "webpack": [node, "../builds/webpack.js", str(work.folder / "app" / page), str(out)],
            "rollup": [
                tool("rollup"),
                "-c",
                "../builds/rollup.js",
                "--failAfterWarnings",
                "-i",
                "list.js",
                "-d",
                str(out),
            ],
            "esbuild": [
                tool("esbuild"),
                page,
                "--bundle",
                "--splitting",
                "--format=esm",
                "--minify",
                f"--outdir={out}",
            ],
        }
        work.run(*commands[bundler], cwd="app")
        html = (work.folder / "app" / "index.html").read_text()
        (out / "index.html").write_text(html.replace(page, "list.js") if bundler == "rollup" else html)
    return out


@pytest.mark.parametrize("bundler", BUNDLERS)
def test_built_page_receives_a_list_members_and_events(
    bundler: str, work: Workspace, browser: Browser, hub: HubProcess
) -> None:
    folder = build(work, bundler)
    variables = {"token": token("7", "orders:*"), "shareTabs": True}
    with opened(browser, hub.url, folder, **variables) as (page, problems):
        room = page.locator("#room")
        expect(room).to_have_text("orders first; members 1; said ", timeout=TIMEOUT_MS)
        push = {"class": "Order", "op": "created", "model": {"id": 2, "title": bundler}, "version": 1}
        hub.publish("orders:all", "updated_model", push)
        page.locator("button").click()
        expect(room).to_have_text(f"orders first,{bundler}; members 1; said hello 7", timeout=TIMEOUT_MS)
        assert problems == []


def test_package_is_small_in_a_bundle(work: Workspace) -> None:
    """Unused parts are left out: they are in files of their own."""
    out = work.folder / "out" / "size"
    flags = ["--bundle", "--splitting", "--format=esm", "--minify", f"--outdir={out}", "--external:socket.io-client"]
    work.run(tool("esbuild"), "hub.js", *flags, cwd="app")
    chunks = [path.name for path in out.iterdir()]
    for part in ("rows", "presence_client", "share", "kept_queue"):
        assert any(name.startswith(part) for name in chunks), chunks


class TestViteDevelopmentServer:
    def test_edits_of_the_module_that_connects_leave_one_connection(
        self, work: Workspace, browser: Browser, hub: HubProcess
    ) -> None:
        app = work.folder / "edited"
        shutil.copytree(work.folder / "app", app)
        port = free_port()
        server = subprocess.Popen(
            [tool("vite"), "--port", str(port)],
            cwd=app,
            env=work.environment(HUB_URL=hub.url),
            stdout=subprocess.DEVNULL,
        )
        try:
            self._edit(app / "hub.js", browser, f"http://127.0.0.1:{port}", hub)
        finally:
            server.terminate()
            server.wait(timeout=20)

    def _edit(self, module: Path, browser: Browser, url: str, hub: HubProcess) -> None:
        wait_until(lambda: is_open(url), within_s=60, why="Vite listens")
        wait_until(lambda: hub.metric("tidings_sessions") == 0, why="the pages of other tests are closed")
        with opened(browser, url, token=token("7", "orders:*")) as (page, problems):
            room = page.locator("#room")
            expect(room).to_have_text("orders first; members 1; said ", timeout=60_000)
            page.evaluate("globalThis.isFirstLoad = true")
            opened_before = opened_connections(hub)
            for number, (old, new) in enumerate([("first", "second"), ("second", "third"), ("third", "fourth")], 1):
                module.write_text(module.read_text().replace(old, new))
                expect(room).to_have_text(f"orders {new}; members 1; said ", timeout=TIMEOUT_MS)
                wait_until(lambda: hub.metric("tidings_sessions") == 1, why="the old hub closes")
                assert opened_connections(hub) == opened_before + number
            page.locator("button").click()
            expect(room).to_have_text("orders fourth; members 1; said hello 7", timeout=TIMEOUT_MS)
            assert page.evaluate("globalThis.isFirstLoad") is True
            assert problems == []
