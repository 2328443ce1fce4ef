"""A page that returns from the back/forward cache of Chromium receives at once, with the SDK and the stock client."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from support.browsers.chromium import FLAGS, SDK
from support.installed_programs import program
from support.processes.hub import HubProcess, token
from support.programs.web_page import serve_pages
from support.source_tree import ROOT

STOCK = ROOT / "sdk_js" / "node_modules" / "socket.io-client" / "dist" / "socket.io.min.js"
# Shorter than the time until a client notices by itself: `ping_interval_s` + `ping_timeout_s`, 45 s.
AT_ONCE_MS = 30_000
_SDK_PAGE = """<!doctype html><title>page</title><script src="/tidings.js"></script><script>
  const numbers = [], shown = [], states = [], errors = [];
  addEventListener("pageshow", ({ persisted }) => shown.push(persisted));
  const hub = tidings.connect(%(url)s, { transports: %(transports)s, getToken: () => %(token)s });
  hub.on("state", (state) => states.push(state));
  hub.on("error", (error) => errors.push(error.code));
  hub.channel("orders:1").on("updated", ({ n }) => numbers.push(n));
  hub.channel("orders:1").on("tidings:state", (state) => states.push(state));
</script>"""
_STOCK_PAGE = """<!doctype html><title>page</title><script src="/socket.io.js"></script><script>
  const numbers = [], shown = [], states = [], errors = [];
  addEventListener("pageshow", ({ persisted }) => shown.push(persisted));
  const auth = { token: %(token)s, channels: ["orders:1"] };
  const socket = io(%(url)s, { transports: %(transports)s, auth });
  socket.on("tidings:ready", () => states.push("subscribed"));
  socket.on("connect", () => states.push(socket.recovered ? "recovered" : "new"));
  socket.on("updated", ({ n }) => numbers.push(n));
  %(snippet)s
</script>"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium with the cache, which playwright disables by default."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program("chromium"),
            headless=True,
            args=FLAGS,
            ignore_default_args=["--disable-back-forward-cache"],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def files() -> dict[str, Callable[[], str]]:
    """What the server of the pages serves."""
    return {
        "/elsewhere": lambda: "<!doctype html><title>elsewhere</title>",
        "/tidings.js": SDK.read_text,
        "/socket.io.js": STOCK.read_text,
    }


@pytest.fixture(scope="module")
def origin(files: dict[str, Callable[[], str]]) -> Iterator[str]:
    with serve_pages(files) as origin:
        yield origin


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, origin: str) -> Iterator[HubProcess]:
    process = HubProcess(tmp_path_factory.mktemp("hub"), extra=f'origins = ["{origin}"]\n').start()
    yield process
    process.stop()


def _snippet() -> str:
    """The block of docs/stock-clients.md about the cache."""
    text = (ROOT / "docs" / "stock-clients.md").read_text(encoding="utf-8")
    block = re.search(r"## Back/forward cache.*?```js\n(.*?)```", text, re.DOTALL)
    assert block is not None
    return block[1]


@pytest.mark.parametrize("transport", ["websocket", "polling"])
@pytest.mark.parametrize("client", ["sdk", "stock"])
def test_page_from_the_cache_receives_at_once(
    browser: Browser,
    hub: HubProcess,
    origin: str,
    files: dict[str, Callable[[], str]],
    client: str,
    transport: str,
) -> None:
    values = {
        "url": json.dumps(hub.url),
        "transports": json.dumps([transport]),
        "token": json.dumps(token("7", "orders:*")),
        "snippet": _snippet(),
    }
    files["/page"] = lambda: (_SDK_PAGE if client == "sdk" else _STOCK_PAGE) % values
    page = browser.new_page()
    page.goto(f"{origin}/page")
    page.wait_for_function("states.includes('subscribed')", timeout=AT_ONCE_MS)
    hub.publish("orders:1", "updated", {"n": 1})
    page.wait_for_function("numbers.length === 1", timeout=AT_ONCE_MS)
    page.goto(f"{origin}/elsewhere")
    hub.publish("orders:1", "updated", {"n": 2})
    # There is no event `load`: the page continues where it was.
    page.go_back(wait_until="commit")
    page.wait_for_function("shown.includes(true)", timeout=AT_ONCE_MS)
    page.wait_for_function("numbers.length === 2", timeout=AT_ONCE_MS)
    hub.publish("orders:1", "updated", {"n": 3})
    page.wait_for_function("numbers.length === 3", timeout=AT_ONCE_MS)
    assert page.evaluate("[numbers, errors]") == [[1, 2, 3], []]
    if client == "stock":
        assert "recovered" in page.evaluate("states")
    page.close()
