"""A page with the SDK, in Chromium, that sleeps, is offline, or is loaded anew: what it missed comes, or it is told."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route

from support.browsers.chromium import ListeningPage, chromium
from support.network.proxy import Proxy
from support.processes.hub import CONFIG, HubProcess, token
from support.waiting import wait_until

# Whoever sleeps is let go after two seconds.
PINGS = """
ping_interval_s = 1.0
ping_timeout_s = 1.0
"""
SHORT = """
[namespaces.short]
subscribe = "token"
history = 10
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    process = HubProcess(tmp_path_factory.mktemp("hub"), extra=PINGS, config=CONFIG + SHORT).start()
    yield process
    process.stop()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context()
    yield context
    context.close()


def listening(context: BrowserContext, url: str, channel: str, *, script: str = "", **options: object) -> ListeningPage:
    page = ListeningPage(context, url, channel, token("away", channel), script=script, **options)
    return page.wait_event("subscribed")


def emit(hub: HubProcess, channel: str, numbers: range) -> None:
    items = [{"channel": channel, "event": "updated", "data": {"n": number}} for number in numbers]
    status, answer, _ = hub.request("POST", "/api/publish", items)
    assert status == 200
    assert all("cursor" in result for result in answer["results"])


@contextmanager
def paused(page: Page) -> Iterator[None]:
    """As a browser freezes a page in the background: no line of its scripts runs, and the browser goes on."""
    session = page.context.new_cdp_session(page)
    session.send("Debugger.enable")
    session.send("Debugger.pause")
    yield
    session.send("Debugger.disable")


@contextmanager
def stopped(page: Page) -> Iterator[None]:
    """As a laptop sleeps: the processes of all pages stand still."""
    browser = page.context.browser
    assert browser is not None
    found = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    pids = [each["id"] for each in found if each["type"] == "renderer"]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


Sleep = Callable[[Page], AbstractContextManager[None]]
SLEEPS = pytest.mark.parametrize("asleep", [paused, stopped], ids=["paused", "stopped"])


def gone(hub: HubProcess, before: float) -> None:
    """Wait until the hub has let a connection go that did not answer its ping."""
    wait_until(lambda: hub.metric("tidings_closed_ping_timeout_total") > before, why="the end of the connection")


@SLEEPS
@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_a_page_that_slept_gets_what_it_missed(
    asleep: Sleep, transport: str, hub: HubProcess, context: BrowserContext
) -> None:
    channel = f"orders:{asleep.__name__}-{transport}"
    page = listening(context, hub.url, channel, transports=[transport])
    emit(hub, channel, range(10))
    page.wait_numbers(10)
    before = hub.metric("tidings_closed_ping_timeout_total")
    with asleep(page.page):
        emit(hub, channel, range(10, 20))
        gone(hub, before)
        emit(hub, channel, range(20, 30))
    page.wait_event("recovered")
    emit(hub, channel, range(30, 40))
    page.wait_numbers(40)
    assert page.numbers == list(range(40))
    assert "gap" not in page.events


@SLEEPS
def test_a_page_that_slept_too_long_is_told(asleep: Sleep, hub: HubProcess, context: BrowserContext) -> None:
    channel = f"short:{asleep.__name__}"
    page = listening(context, hub.url, channel)
    emit(hub, channel, range(5))
    page.wait_numbers(5)
    before = hub.metric("tidings_closed_ping_timeout_total")
    with asleep(page.page):
        gone(hub, before)
        # Far more than is kept, which is trimmed in blocks.
        for start in range(5, 505, 100):
            emit(hub, channel, range(start, start + 100))
    page.wait_event("gap")
    emit(hub, channel, range(505, 510))
    page.wait_numbers(10)
    # Never a part of what was missed.
    assert page.numbers == [*range(5), *range(505, 510)]
    assert "recovered" not in page.events


def test_a_page_that_is_online_again_comes_back_at_once(hub: HubProcess, context: BrowserContext) -> None:
    channel = "orders:offline"
    with closing(Proxy(hub.port, plain=True)) as proxy:
        # Its pauses are as long as they may be: without the browser's word it would wait for several seconds.
        script = "Math.random = () => 0.999;"
        page = listening(context, f"http://127.0.0.1:{proxy.port}", channel, script=script)
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
        told = page.events
    start = told.index("online")
    assert told[start - 1 : start + 3] == ["waiting", "online", "connecting", "online is over"]
    assert told[start + 3 :] == ["connected", "subscribed", "recovered"]
    assert page.numbers == list(range(20))


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "forgotten"])
def test_a_page_that_is_loaded_anew_gets_what_it_missed_if_it_keeps_its_place(
    kept: bool, hub: HubProcess, context: BrowserContext
) -> None:
    channel = f"orders:reload-{kept}"
    page = listening(context, hub.url, channel, **({"keepAs": "reload"} if kept else {}))
    emit(hub, channel, range(10))
    page.wait_numbers(10)

    def while_loading(route: Route) -> None:
        # The old page is gone, and the new one has no SDK yet.
        emit(hub, channel, range(10, 20))
        route.continue_()

    page.page.route("**/tidings.js", while_loading)
    page.page.reload()
    page.wait_event("subscribed")
    emit(hub, channel, range(20, 30))
    page.wait_numbers(20 if kept else 10)
    assert page.numbers == list(range(10 if kept else 20, 30))
    assert page.events.count("recovered") == (1 if kept else 0)
    assert "gap" not in page.events
