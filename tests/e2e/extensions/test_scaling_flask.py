"""The application of docs/scaling-flask.md, as its steps run it."""

from __future__ import annotations

import http.client
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from e2e.browsers.test_page import browser  # noqa: F401 - a fixture
from support.processes.client import ClientProcess
from support.processes.hub import API_KEY, ROOT, SECRET, HubProcess, environment
from support.processes.redis import RedisProcess
from support.waiting import wait_until

TEXT = (ROOT / "docs" / "scaling-flask.md").read_text()


def part(kind: str, name: str) -> str:
    """A file in the documentation, by its first line."""
    found = re.search(rf"```{kind}\n# {re.escape(name)}\n(.*?)```", TEXT, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "myshop.py").write_text(part("python", "myshop.py"))
    return tmp_path


def shipped(shop_port: int, hub: HubProcess, clients: list[ClientProcess]) -> None:
    """A browser that has the shop's token is told what the shop ships."""
    _, page = asked(shop_port, "GET", "/orders/42")
    assert b"/tidings.js" in page
    _, token = asked(shop_port, "GET", "/token")
    client = ClientProcess("js-websocket", hub.url, token=token.decode(), channels=["orders:42"])
    clients.append(client.wait_ready())
    assert "error" not in client.records_of("ready")[0]["channels"]["orders:42"]
    status, receipt = asked(shop_port, "POST", "/orders/42/ship")
    assert status == 200
    client.wait(lambda client: client.data("orders:42") == [{"order": 42}], why="the order")
    assert client.records_of("publication")[0]["cursor"].encode() in receipt


def asked(port: int, method: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("step", [1, 2])
def test_in_one_process(folder: Path, clients: list[ClientProcess], step: int) -> None:
    flags = ["--wsgi", "myshop:app"] + (["--dev"] if step == 1 else [])
    hub = HubProcess(folder, *flags, config=part("toml", "tidings.toml"))
    hub.environment = {"TIDINGS_URL": "memory://", "TIDINGS_SECRET": SECRET}
    try:
        hub.start()
        shipped(hub.port, hub, clients)
    finally:
        hub.stop()


def test_a_browser_sees_it(folder: Path, browser: Browser) -> None:  # noqa: F811 - the fixture
    extra = f'api_keys = ["{API_KEY}"]\n'
    hub = HubProcess(folder, "--wsgi", "myshop:app", extra=extra, config=part("toml", "tidings.toml"))
    hub.environment = {"TIDINGS_URL": "memory://", "TIDINGS_SECRET": SECRET}
    try:
        hub.start()
        page = browser.new_page()
        page.goto(f"{hub.url}/orders/42")
        wait_until(lambda: hub.metric("tidings_subscriptions") >= 2, why="the page is subscribed")
        asked(hub.port, "POST", "/orders/42/ship")
        expect(page.locator("#state")).to_have_text("shipped")
        page.close()
    finally:
        hub.stop()


@contextmanager
def gunicorn(folder: Path, url: str) -> Iterator[int]:
    """The shop in processes of its own; its port."""
    env = environment() | {"TIDINGS_URL": url, "TIDINGS_SECRET": SECRET}
    command = [sys.executable, "-m", "gunicorn", "--workers", "2", "--bind", "127.0.0.1:0", "myshop:app"]
    log = folder / "gunicorn.log"
    with log.open("wb") as opened:
        process = subprocess.Popen(command, cwd=folder, env=env, stderr=opened)
    try:
        listening = re.compile(r"Listening at: http://127\.0\.0\.1:(\d+)")
        wait_until(lambda: listening.search(log.read_text()), why="gunicorn listens")
        found = listening.search(log.read_text())
        assert found is not None
        yield int(found[1])
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_in_processes_of_its_own(
    folder: Path, clients: list[ClientProcess], shared_redis: RedisProcess, prefix: str
) -> None:
    # Redis is shared with other tests: a prefix of our own, which the application's emitter must have, too.
    shop = folder / "myshop.py"
    shop.write_text(
        shop.read_text().replace("Emitter.from_env()", f'Emitter(os.environ["TIDINGS_URL"], prefix="{prefix}")', 1)
    )
    hub = HubProcess(folder, extra=f'prefix = "{prefix}"\n', config=part("toml", "tidings.toml"))
    hub.environment = {"TIDINGS_BROKER": shared_redis.url, "TIDINGS_SECRET": SECRET}
    try:
        hub.start()
        with gunicorn(folder, shared_redis.url) as port:
            shipped(port, hub, clients)
    finally:
        hub.stop()


def test_every_command_is_one_that_there_is() -> None:
    from tidings_hub.cli import parser

    blocks = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if "tidings " in line and "pip" not in line]
    assert len(lines) >= 6
    for line in lines:
        words = line[line.index("tidings ") :].partition(" > ")[0].split()
        parser().parse_args(words[1:])
