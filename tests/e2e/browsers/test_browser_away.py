"""A page with the SDK, in Chromium, that is suspended, offline or reloaded: it recovers, or receives a gap."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route

from support.browsers.chromium import ListeningPage
from support.network.proxy import Proxy
from support.processes.hub import CONFIG, HubProcess, token
from support.waiting import wait_until

# The hub closes a suspended page's connection after two seconds.
PINGS = """
ping_interval_s = 1.0
ping_timeout_s = 1.0
"""
SHORT_HISTORY = """
[namespaces.short]
subscribe = "token"
history = 10
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    process = HubProcess(tmp_path_factory.mktemp("hub"), extra=PINGS, config=CONFIG + SHORT_HISTORY).start()
    yield process
    process.stop()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context()
    yield context
    context.close()


def open_page(context: BrowserContext, url: str, channel: str, *, script: str = "", **options: object) -> ListeningPage:
    page = ListeningPage(context, url, channel, token("away", channel), script=script, **options)
    return page.wait_event("subscribed")


def emit(hub: HubProcess, channel: str, numbers: range) -> None:
    items = [{"channel": channel, "event": "updated", "data": {"n": number}} for number in numbers]
    status, response, _ = hub.request("POST", "/api/publish", items)
    assert status == 200
    assert all("cursor" in result for result in response["results"])


@contextmanager
def paused(page: Page) -> Iterator[None]:
    """Pause the page's scripts, as a browser freezes a page in the background."""
    session = page.context.new_cdp_session(page)
    session.send("Debugger.enable")
    session.send("Debugger.pause")
    yield
    session.send("Debugger.disable")


@contextmanager
def stopped(page: Page) -> Iterator[None]:
    """Stop the processes of all pages, as when a laptop sleeps."""
    browser = page.context.browser
    assert browser is not None
    processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    pids = [process["id"] for process in processes if process["type"] == "renderer"]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


Suspension = Callable[[Page], AbstractContextManager[None]]
SUSPENSIONS = pytest.mark.parametrize("suspended", [paused, stopped], ids=["paused", "stopped"])


def wait_closed(hub: HubProcess, before: float) -> None:
    """Wait until the hub has closed a connection after a ping timeout."""
    wait_until(lambda: hub.metric("tidings_closed_ping_timeout_total") > before, why="a ping timeout")


@SUSPENSIONS
@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_suspended_page_recovers_missed_publications(
    suspended: Suspension, transport: str, hub: HubProcess, context: BrowserContext
) -> None:
    channel = f"orders:{suspended.__name__}-{transport}"
    page = open_page(context, hub.url, channel, transports=[transport])
    emit(hub, channel, range(10))
    page.wait_numbers(10)
    before = hub.metric("tidings_closed_ping_timeout_total")
    with suspended(page.page):
        emit(hub, channel, range(10, 20))
        wait_closed(hub, before)
        emit(hub, channel, range(20, 30))
    page.wait_event("recovered")
    emit(hub, channel, range(30, 40))
    page.wait_numbers(40)
    assert page.numbers == list(range(40))
    assert "gap" not in page.events


@SUSPENSIONS
def test_page_suspended_beyond_the_history_receives_a_gap(
    suspended: Suspension, hub: HubProcess, context: BrowserContext
) -> None:
    channel = f"short:{suspended.__name__}"
    page = open_page(context, hub.url, channel)
    emit(hub, channel, range(5))
    page.wait_numbers(5)
    before = hub.metric("tidings_closed_ping_timeout_total")
    with suspended(page.page):
        wait_closed(hub, before)
        # Far more than the history keeps, because it is trimmed in blocks.
        for start in range(5, 505, 100):
            emit(hub, channel, range(start, start + 100))
    page.wait_event("gap")
    emit(hub, channel, range(505, 510))
    page.wait_numbers(10)
    # None of the missed publications arrive.
    assert page.numbers == [*range(5), *range(505, 510)]
    assert "recovered" not in page.events


def test_page_reconnects_immediately_when_online_again(hub: HubProcess, context: BrowserContext) -> None:
    channel = "orders:offline"
    with closing(Proxy(hub.port, plain=True)) as proxy:
        # All delays are as long as possible: without the browser's event the page would wait for several seconds.
        script = "Math.random = () => 0.999;"
        page = open_page(context, f"http://127.0.0.1:{proxy.port}", channel, script=script)
        emit(hub, channel, range(10))
        page.wait_numbers(10)
        context.set_offline(True)
        proxy.refuse()
        page.wait_event("waiting", 3)
        emit(hub, channel, range(10, 20))
        proxy.accept_again()
        assert page.events[-1] == "waiting"
        context.set_offline(False)
        page.wait_event("recovered")
        page.wait_numbers(20)
        events = page.events
    start = events.index("online")
    assert events[start - 1 : start + 3] == ["waiting", "online", "connecting", "online was handled"]
    assert events[start + 3 :] == ["connected", "subscribed", "recovered"]
    assert page.numbers == list(range(20))


# The other names are properties of each Storage object.
@pytest.mark.parametrize("keep_as", ["reload", "length", "getItem", "constructor", "__proto__", None])
def test_reloaded_page_recovers_only_with_keep_as(
    keep_as: str | None, hub: HubProcess, context: BrowserContext
) -> None:
    channel = f"orders:reload-{keep_as}"
    page = open_page(context, hub.url, channel, **({"keepAs": keep_as} if keep_as else {}))
    emit(hub, channel, range(10))
    page.wait_numbers(10)

    def while_loading(route: Route) -> None:
        # The old page is closed, and the new page has not loaded the SDK yet.
        emit(hub, channel, range(10, 20))
        route.continue_()

    page.page.route("**/tidings.js", while_loading)
    page.page.reload()
    page.wait_event("subscribed")
    emit(hub, channel, range(20, 30))
    page.wait_numbers(20 if keep_as else 10)
    assert page.numbers == list(range(10 if keep_as else 20, 30))
    assert page.events.count("recovered") == (1 if keep_as else 0)
    assert "gap" not in page.events
