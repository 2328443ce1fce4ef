"""What pages in a real Chromium learn when the hub, the network or their own policy refuses them."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from support.browsers.chromium import SDK
from support.network.raw_client import RawWebSocket
from support.processes.hub import SECRET, HubProcess, token
from support.source_tree import ROOT
from support.waiting import wait_until
from tidings.tokens import issue

STOCK = ROOT / "sdk_js" / "node_modules" / "socket.io-client" / "dist" / "socket.io.min.js"
# The origin of all pages below: none of the hub's.
PAGE = "http://shop.example/"
_SDK_PAGE = """<!doctype html><title>page</title>%(head)s
<script src="/tidings.js"></script>
<script>
  const errors = [], states = [];
  const hub = tidings.connect(%(url)s, {...%(options)s, getToken: () => (%(token)s)});
  hub.on("state", (state, error) => states.push([state, error?.code]));
  hub.on("error", (error) => errors.push([error.code, error.message, error.channel]));
  const orders = hub.collection("Order", {channel: %(channel)s, load: () => [{id: 1, version: 1}]});
  orders.subscribe(() => {});
</script>"""
_STOCK_PAGE = """<!doctype html><title>page</title>
<script src="/socket.io.js"></script>
<script>
  const errors = [];
  const socket = io(%(url)s, {...%(options)s, reconnectionDelay: 50, auth: {token: %(token)s}});
  socket.on("connect_error", (error) =>
    errors.push([error.data?.code, socket.active, error.context?.responseText]));
  socket.on("disconnect", (reason, details) =>
    errors.push([reason, details?.context?.reason, details?.context?.responseText]));
</script>"""


@pytest.fixture(scope="module")
def closed_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    process = HubProcess(tmp_path_factory.mktemp("hub"), extra='origins = ["https://other.example"]\n').start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def open_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub that allows the pages below."""
    process = HubProcess(tmp_path_factory.mktemp("open"), extra=f'origins = ["{PAGE[:-1]}"]\n').start()
    yield process
    process.stop()


@dataclass
class LoadedPage:
    """A page of `PAGE`, and what its console shows."""

    page: Page
    console: list[str] = field(default_factory=list)

    def evaluate(self, script: str) -> Any:
        """The value of an expression."""
        return self.page.evaluate(script)

    @property
    def codes(self) -> list[str]:
        """The codes of the errors so far."""
        return [entry[0] for entry in self.evaluate("errors")]

    def wait(self, script: str, why: str) -> LoadedPage:
        """Wait until an expression is true."""
        wait_until(lambda: self.evaluate(script), within_s=30.0, why=why)
        return self

    def lines(self) -> list[str]:
        """The SDK's lines in the console."""
        return [line for line in self.console if line.startswith("tidings:")]


def load(browser: Browser, template: str, url: str, *, token: object, head: str = "", **values: Any) -> LoadedPage:
    context = browser.new_context()
    page = context.new_page()
    options = json.dumps(values.pop("options", {}))
    channel = json.dumps(values.pop("channel", "orders:1"))
    body = template % {
        "url": json.dumps(url), "token": json.dumps(token), "head": head, "options": options, "channel": channel,
    }  # fmt: skip
    page.route(PAGE, lambda route: route.fulfill(body=body, content_type="text/html"))
    page.route(f"{PAGE}tidings.js", lambda route: route.fulfill(path=SDK))
    page.route(f"{PAGE}socket.io.js", lambda route: route.fulfill(path=STOCK))
    loaded = LoadedPage(page)
    page.on("console", lambda message: loaded.console.append(message.text))
    page.goto(PAGE)
    return loaded


TRANSPORTS = [["websocket", "polling"], ["websocket"], ["polling"]]
TRANSPORT_IDS = ["both", "websocket", "polling"]


@pytest.mark.parametrize("transports", TRANSPORTS, ids=TRANSPORT_IDS)
def test_wrong_origin_closes_the_sdk_with_its_code(browser: Browser, hub: HubProcess, transports: list[str]) -> None:
    page = load(browser, _SDK_PAGE, hub.url, token=token("7", "orders:*"), options={"transports": transports})
    page.wait("hub.state === 'closed'", "the hub refuses the page")
    assert page.evaluate("hub.error.code") == "bad_origin"
    assert page.codes == ["bad_origin"]
    assert page.evaluate("[orders.getSnapshot().state, orders.getSnapshot().error.code]") == ["failed", "bad_origin"]
    assert len(page.lines()) == 1
    assert "origins" in page.lines()[0]
    page.page.close()


@pytest.mark.parametrize("transports", [["websocket"], ["polling"]], ids=["websocket", "polling"])
def test_wrong_origin_is_readable_for_a_stock_client(browser: Browser, hub: HubProcess, transports: list[str]) -> None:
    page = load(browser, _STOCK_PAGE, hub.url, token=token("7"), options={"transports": transports})
    page.wait("errors.length > 0", "the first refusal")
    code, active, text = page.evaluate("errors[0]")
    if transports == ["websocket"]:
        assert (code, active) == ("bad_origin", False)
    else:
        # A refused HTTP request: the client retries, with its own back-off.
        assert json.loads(text)["error"]["code"] == "bad_origin"
    page.page.close()


@pytest.mark.parametrize("transports", TRANSPORTS, ids=TRANSPORT_IDS)
def test_unreachable_hub_is_named(browser: Browser, closed_port: int, transports: list[str]) -> None:
    url = f"http://127.0.0.1:{closed_port}"
    page = load(browser, _SDK_PAGE, url, token=token("7", "orders:*"), options={"transports": transports})
    page.wait("states.filter(([state]) => state === 'waiting').length >= 2", "two failed attempts")
    assert page.codes == ["unreachable"]
    assert page.evaluate("hub.error.code") == "unreachable"
    assert len(page.lines()) == 1
    assert url in page.lines()[0]
    page.page.close()


@pytest.mark.parametrize("transports", TRANSPORTS, ids=TRANSPORT_IDS)
def test_policy_of_the_page_is_named(browser: Browser, open_hub: HubProcess, transports: list[str]) -> None:
    policy = '<meta http-equiv="Content-Security-Policy" content="connect-src https://api.example">'
    valid = token("7", "orders:*")
    page = load(browser, _SDK_PAGE, open_hub.url, token=valid, head=policy, options={"transports": transports})
    page.wait("errors.some(([code]) => code === 'blocked')", "the policy blocks the connection")
    assert page.evaluate("hub.error.code") == "blocked"
    assert "connect-src" in page.lines()[-1]
    assert open_hub.url in page.lines()[-1]
    page.page.close()


def test_policy_that_only_reports_is_not_blamed(browser: Browser, closed_port: int) -> None:
    url = f"http://127.0.0.1:{closed_port}"
    page = browser.new_page()
    body = _SDK_PAGE % {"head": "", "url": json.dumps(url), "options": "{}", "token": '"a"', "channel": '"orders:1"'}
    policy = {"Content-Security-Policy-Report-Only": "connect-src https://api.example"}
    page.route(PAGE, lambda route: route.fulfill(body=body, content_type="text/html", headers=policy))
    page.route("**/tidings.js", lambda route: route.fulfill(path=SDK))
    page.goto(PAGE)
    wait_until(lambda: page.evaluate("errors.length") > 0, why="the hub is not reachable")
    assert page.evaluate("errors.map(([code]) => code)") == ["unreachable"]
    page.close()


def test_another_server_at_the_address_is_named(browser: Browser, open_hub: HubProcess) -> None:
    page = load(browser, _SDK_PAGE, f"{open_hub.url}/nowhere", token=token("7"), options={"transports": ["polling"]})
    page.wait("errors.length > 0", "a refused attempt")
    assert page.evaluate("hub.error.code") == "unreachable"
    page.page.close()


def test_refused_channel_is_an_error_of_hub_list_and_console(browser: Browser, open_hub: HubProcess) -> None:
    for channel, valid, code in (
        ("nowhere:1", token("7", "*"), "unknown_namespace"),
        ("orders:1", token("7", "orders:2"), "forbidden"),
    ):
        page = load(browser, _SDK_PAGE, open_hub.url, token=valid, channel=channel)
        page.wait("orders.getSnapshot().state === 'failed'", "the list knows")
        assert page.evaluate("[orders.getSnapshot().error.code, orders.getSnapshot().items.length]") == [code, 1]
        assert page.evaluate("errors.map(([code, , channel]) => [code, channel])") == [[code, channel]]
        assert len(page.lines()) == 1
        assert page.evaluate("hub.state") == "connected"
        page.page.close()


@pytest.mark.parametrize("transports", TRANSPORTS, ids=TRANSPORT_IDS)
def test_expired_token_is_the_reason_to_wait(browser: Browser, open_hub: HubProcess, transports: list[str]) -> None:
    expired = issue("7", key=SECRET, expires_in_s=60, now_s=time.time() - 600)
    page = load(browser, _SDK_PAGE, open_hub.url, token=expired, options={"transports": transports})
    page.wait("states.filter(([state]) => state === 'waiting').length >= 2", "two refused attempts")
    assert page.evaluate("hub.error.code") == "expired"
    assert page.codes == ["expired"]
    page.page.close()


@pytest.mark.parametrize("transports", [["websocket"], ["polling"]], ids=["websocket", "polling"])
def test_expired_token_stops_a_stock_client_with_the_code(
    browser: Browser, open_hub: HubProcess, transports: list[str]
) -> None:
    expired = issue("7", key=SECRET, expires_in_s=60, now_s=time.time() - 600)
    page = load(browser, _STOCK_PAGE, open_hub.url, token=expired, options={"transports": transports})
    page.wait("errors.length > 0 && !socket.active", "the refusal")
    assert page.evaluate("errors[0].slice(0, 2)") == ["expired", False]
    page.page.close()


@pytest.mark.parametrize(
    ("value", "text"),
    [({"token": "a.b.c"}, "type object"), ("<html>502 Bad Gateway</html>", "no token")],
    ids=["object", "error-page"],
)
def test_getToken_that_gives_no_token_is_named(  # noqa: N802 - the name of the option
    browser: Browser, open_hub: HubProcess, value: object, text: str
) -> None:
    page = load(browser, _SDK_PAGE, open_hub.url, token=value)
    page.wait("hub.state === 'waiting'", "it waits for a token")
    assert page.evaluate("hub.error.code") == "no_token"
    assert page.codes == ["no_token"]
    assert text in page.lines()[0]
    page.page.close()


@pytest.mark.parametrize("transports", [["websocket", "polling"], ["polling"]], ids=["both", "polling"])
def test_full_hub_is_named_while_the_page_waits(browser: Browser, tmp_path: Path, transports: list[str]) -> None:
    extra = f'origins = ["{PAGE[:-1]}"]\nconnections_per_address = 1\n'
    hub = HubProcess(tmp_path, extra=extra).start()
    try:
        with RawWebSocket(hub.port, "/socket.io/?EIO=4&transport=websocket") as first:
            first.send_text("40" + json.dumps({"token": token("6")}))
            page = load(browser, _SDK_PAGE, hub.url, token=token("7", "orders:*"), options={"transports": transports})
            # It tries again soon, and is `connecting` meanwhile.
            page.wait("hub.state === 'waiting' && hub.error !== undefined", "a refused handshake")
            assert page.evaluate("hub.error.code") == "too_many_connections"
            assert page.codes == ["too_many_connections"]
        page.wait("hub.state === 'connected'", "there is room")
        assert page.evaluate("hub.error === undefined")
        page.page.close()
    finally:
        hub.stop()
