"""The application of docs/scaling-flask.md, run as in each step of the page."""

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

from support.processes.client import ClientProcess
from support.processes.hub import API_KEY, ROOT, SECRET, HubProcess, environment
from support.processes.redis import RedisProcess
from support.waiting import wait_until

TEXT = (ROOT / "docs" / "scaling-flask.md").read_text()


def documented_file(kind: str, name: str) -> str:
    """Return a file of the page; its first line names it."""
    match = re.search(rf"```{kind}\n# {re.escape(name)}\n(.*?)```", TEXT, re.DOTALL)
    assert match is not None
    return match[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "myshop.py").write_text(documented_file("python", "myshop.py"))
    return tmp_path


def ship_order(shop_port: int, hub: HubProcess, clients: list[ClientProcess]) -> None:
    """Ship an order; a client with a token of the shop receives it."""
    _, page = request(shop_port, "GET", "/orders/42")
    assert b"/tidings.js" in page
    _, token = request(shop_port, "GET", "/token")
    client = ClientProcess("js-websocket", hub.url, token=token.decode(), channels=["orders:42"])
    clients.append(client.wait_ready())
    assert "error" not in client.records_of("ready")[0]["channels"]["orders:42"]
    status, receipt = request(shop_port, "POST", "/orders/42/ship")
    assert status == 200
    client.wait(lambda client: client.data("orders:42") == [{"order": 42}], why="the order")
    assert client.records_of("publication")[0]["cursor"].encode() in receipt


def request(port: int, method: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("step", [1, 2])
def test_shop_works_in_the_process_of_the_hub(folder: Path, clients: list[ClientProcess], step: int) -> None:
    flags = ["--wsgi", "myshop:app"] + (["--dev"] if step == 1 else [])
    hub = HubProcess(folder, *flags, config=documented_file("toml", "tidings.toml"))
    hub.environment = {"TIDINGS_URL": "memory://", "TIDINGS_SECRET": SECRET}
    try:
        hub.start()
        ship_order(hub.port, hub, clients)
    finally:
        hub.stop()


def test_browser_receives_the_shipping_event(folder: Path, browser: Browser) -> None:
    extra = f'api_keys = ["{API_KEY}"]\n'
    hub = HubProcess(folder, "--wsgi", "myshop:app", extra=extra, config=documented_file("toml", "tidings.toml"))
    hub.environment = {"TIDINGS_URL": "memory://", "TIDINGS_SECRET": SECRET}
    try:
        hub.start()
        page = browser.new_page()
        page.goto(f"{hub.url}/orders/42")
        wait_until(lambda: hub.metric("tidings_subscriptions") >= 2, why="the page is subscribed")
        request(hub.port, "POST", "/orders/42/ship")
        expect(page.locator("#state")).to_have_text("shipped")
        page.close()
    finally:
        hub.stop()


@contextmanager
def gunicorn(folder: Path, url: str) -> Iterator[int]:
    """Run the shop in separate processes, and yield its port."""
    env = environment() | {"TIDINGS_URL": url, "TIDINGS_SECRET": SECRET}
    command = [sys.executable, "-m", "gunicorn", "--workers", "2", "--bind", "127.0.0.1:0", "myshop:app"]
    log = folder / "gunicorn.log"
    with log.open("wb") as log_file:
        process = subprocess.Popen(command, cwd=folder, env=env, stderr=log_file)
    try:
        listening = re.compile(r"Listening at: http://127\.0\.0\.1:(\d+)")
        wait_until(lambda: listening.search(log.read_text()), why="gunicorn listens")
        match = listening.search(log.read_text())
        assert match is not None
        yield int(match[1])
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_shop_works_in_separate_processes(
    folder: Path, clients: list[ClientProcess], shared_redis: RedisProcess, prefix: str
) -> None:
    # Other tests use the same Redis, so the hub and the application's emitter get a separate prefix.
    shop = folder / "myshop.py"
    shop.write_text(
        shop.read_text().replace("Emitter.from_env()", f'Emitter(os.environ["TIDINGS_URL"], prefix="{prefix}")', 1)
    )
    hub = HubProcess(folder, extra=f'prefix = "{prefix}"\n', config=documented_file("toml", "tidings.toml"))
    hub.environment = {"TIDINGS_BROKER": shared_redis.url, "TIDINGS_SECRET": SECRET}
    try:
        hub.start()
        with gunicorn(folder, shared_redis.url) as port:
            ship_order(port, hub, clients)
    finally:
        hub.stop()


def test_every_command_of_the_page_exists() -> None:
    from tidings_hub.cli import parser

    blocks = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if "tidings " in line and "pip" not in line]
    assert len(lines) >= 6
    for line in lines:
        words = line[line.index("tidings ") :].partition(" > ")[0].split()
        parser().parse_args(words[1:])
