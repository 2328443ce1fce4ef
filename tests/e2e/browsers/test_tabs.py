"""Tabs of one browser that share a connection (`shareTabs`), in Chromium, with a real hub."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Error, Page, sync_playwright

from support.installed_programs import program
from support.processes.hub import API_KEY, HubProcess, token
from support.programs.web_page import serve_pages
from support.waiting import wait_until
from tidings import Emitter

pytestmark = pytest.mark.timeout(240)

FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
TIMEOUT_MS = 60_000.0
# Upper bound for a takeover, which takes some ten milliseconds.
TAKEOVER_MAX_MS = 5000.0
# The fragment of the URL has the tab's options: its channel, and its value of `shareTabs`.
PAGE = """<!doctype html>
<script>
  const parameters = new URLSearchParams(location.hash.slice(1));
  if (parameters.has("without")) delete Navigator.prototype[parameters.get("without")];
</script>
<script src="%s/tidings.js"></script>
<script>
  const received = [], events = [], states = [];
  const token = async () => (await fetch("/token")).text();
  const hub = tidings.connect("%s", { getToken: token, shareTabs: parameters.get("as") ?? true });
  hub.on("state", (state) => states.push({ state, atMs: performance.now() }));
  const channel = hub.channel(parameters.get("channel") ?? "orders:all");
  channel.on("updated", (data) => received.push({ n: data.n, atMs: performance.now() }));
  for (const event of ["tidings:gap", "tidings:recovered"]) channel.on(event, () => events.push(event));
</script>
"""


class Site:
    """A hub, a backend that serves the page, and a browser.

    `sign_ins[-1]` is the signed-in user; an empty string: signed out. `token_requests` has the user of each request.
    """

    def __init__(
        self, hub: HubProcess, origin: str, context: BrowserContext, sign_ins: list[str], token_requests: list[str]
    ) -> None:
        self.hub = hub
        self.sign_ins = sign_ins
        self.token_requests = token_requests
        self._origin = origin
        self._context = context

    def open(self, fragment: str = "") -> Page:
        """Open a tab with the options in `fragment`, and wait until it is subscribed."""
        page = self._context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.goto(f"{self._origin}/#{fragment}")
        page.wait_for_function("() => channel.state === 'subscribed'")
        return page

    def connections(self) -> int:
        """Return the number of connections at the hub."""
        return len(self.hub.get("/api/connections")[1]["connections"])

    def wait_connections(self, count: int) -> None:
        """Wait until the hub has this number of connections."""
        wait_until(lambda: self.connections() == count, why=f"{count} connections")

    def publish(self, numbers: range, channel: str = "orders:all") -> None:
        """Publish one publication per number."""
        for number in numbers:
            self.hub.publish(channel, "updated", {"n": number})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    token_requests: list[str] = []
    sign_ins = ["7"]

    def new_token() -> str:
        token_requests.append(sign_ins[-1])
        return token(sign_ins[-1], "orders:*") if sign_ins[-1] else ""

    files: dict[str, Callable[[], str]] = {"/token": new_token}
    with serve_pages(files) as origin, sync_playwright() as playwright:
        hub = HubProcess(tmp_path, extra=f'origins = ["{origin}"]\n').start()
        browser = playwright.chromium.launch(executable_path=program("chromium"), headless=True, args=FLAGS)
        try:
            files["/"] = lambda: PAGE % (hub.url, hub.url)
            yield Site(hub, origin, browser.new_context(), sign_ins, token_requests)
        finally:
            browser.close()
            hub.stop()


@contextmanager
def in_background(work: Callable[[], None]) -> Iterator[None]:
    """Run `work` in a thread during the block, and wait for it at the end."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def numbers(page: Page) -> list[int]:
    """Return the numbers that a tab received."""
    return [publication["n"] for publication in page.evaluate("() => received")]


def wait_numbers(page: Page, count: int) -> list[int]:
    """Wait until a tab has received `count` numbers and for 200 ms more, and return all received numbers."""
    page.wait_for_function(f"() => received.length >= {count}")
    page.wait_for_timeout(200)
    return numbers(page)


def disconnected_ms(page: Page) -> float:
    """Return how long a tab was last disconnected."""
    states: list[dict[str, Any]] = page.evaluate("() => states")
    lost_ms = max(entry["atMs"] for entry in states if entry["state"] == "waiting")
    connected_ms = max(entry["atMs"] for entry in states if entry["state"] == "connected")
    return float(connected_ms - lost_ms)


def test_three_tabs_share_one_connection_and_token(site: Site) -> None:
    pages = [site.open(), site.open(), site.open("channel=orders:other")]
    assert site.connections() == 1
    assert len(site.token_requests) == 1
    site.publish(range(20))
    site.publish(range(100, 105), "orders:other")
    assert [wait_numbers(page, 20) for page in pages[:2]] == [list(range(20))] * 2
    assert wait_numbers(pages[2], 5) == list(range(100, 105))
    assert [page.evaluate("() => [hub.user, hub.transport]") for page in pages] == [["7", "websocket"]] * 3
    # Closing a hub affects only its own tab, also if this tab is the leader.
    for page in pages[1:]:
        page.evaluate("() => hub.close()")
    pages[0].evaluate("() => hub.close()")
    site.wait_connections(0)
    pages[1].evaluate("() => hub.connect()")
    pages[1].wait_for_function("() => hub.state === 'connected'")
    site.publish(range(20, 25))
    assert wait_numbers(pages[1], 25) == list(range(25))
    assert pages[0].evaluate("() => hub.state") == "closed"


def test_closing_the_leader_during_publications_loses_nothing(
    site: Site, record_property: Callable[[str, object], None]
) -> None:
    pages = [site.open() for _ in range(4)]
    remaining = pages[2:]
    published: list[int] = []
    is_over = threading.Event()

    def publish() -> None:
        while not is_over.is_set():
            site.publish(range(len(published), len(published) + 1))
            published.append(len(published))

    with in_background(publish):
        try:
            for takeovers, leader in enumerate(pages[:2], start=1):
                remaining[1].wait_for_function("() => received.length % 100 > 50")
                leader.close()
                for page in remaining:
                    page.wait_for_function(f"() => events.length === {takeovers}")
        finally:
            is_over.set()
    assert [wait_numbers(page, len(published)) for page in remaining] == [published] * 2
    assert [page.evaluate("() => events") for page in remaining] == [["tidings:recovered"] * 2] * 2
    site.wait_connections(1)
    took_ms = max(disconnected_ms(page) for page in remaining)
    record_property("takeover_ms", took_ms)
    assert took_ms < TAKEOVER_MAX_MS


def test_last_tab_takes_over_after_a_crash_and_a_close(site: Site) -> None:
    pages = [site.open() for _ in range(3)]
    site.publish(range(10))
    # The renderer crashes, so the page cannot send any message.
    with pytest.raises(Error, match="crash"):
        pages[0].goto("chrome://crash")
    site.publish(range(10, 20))
    assert wait_numbers(pages[1], 20) == wait_numbers(pages[2], 20) == list(range(20))
    pages[1].close()
    site.publish(range(20, 30))
    assert wait_numbers(pages[2], 30) == list(range(30))
    assert pages[2].evaluate("() => events") == ["tidings:recovered"] * 2
    site.wait_connections(1)


def test_frozen_leader_hands_over_and_follows_after_resume(site: Site) -> None:
    leader, follower = site.open(), site.open()
    site.publish(range(5))
    assert wait_numbers(leader, 5) == wait_numbers(follower, 5)
    # The browser's event before it freezes a hidden page. It does not freeze a visible one.
    leader.evaluate("() => document.dispatchEvent(new Event('freeze'))")
    follower.wait_for_function("() => events.length === 1")
    site.publish(range(5, 10))
    leader.evaluate("() => document.dispatchEvent(new Event('resume'))")
    assert wait_numbers(leader, 10) == wait_numbers(follower, 10) == list(range(10))
    assert leader.evaluate("() => events") == follower.evaluate("() => events") == ["tidings:recovered"]
    site.wait_connections(1)


def test_follower_with_another_channel_survives_a_reload_of_the_leader(site: Site) -> None:
    leader, follower = site.open(), site.open("channel=orders:other")
    site.publish(range(5), "orders:other")
    with in_background(lambda: site.publish(range(5, 100), "orders:other")):
        leader.wait_for_timeout(100)
        leader.reload()
        leader.wait_for_function("() => channel.state === 'subscribed'")
    assert wait_numbers(follower, 100) == list(range(100))
    assert follower.evaluate("() => events") == ["tidings:recovered"]
    site.publish(range(3))
    assert wait_numbers(leader, 3) == [0, 1, 2]
    site.wait_connections(1)


def test_leader_navigates_back(site: Site) -> None:
    leader, follower = site.open(), site.open()
    site.publish(range(5))
    leader.goto("about:blank")
    site.publish(range(5, 10))
    leader.go_back()
    leader.wait_for_function("() => channel.state === 'subscribed'")
    before = len(numbers(leader))
    site.publish(range(10, 15))
    assert wait_numbers(follower, 15) == list(range(15))
    assert wait_numbers(leader, before + 5)[-5:] == list(range(10, 15))
    site.wait_connections(1)


def test_different_share_names_use_different_connections(site: Site) -> None:
    pages = [site.open("as=ann"), site.open("as=ben"), site.open("as=ann")]
    site.publish(range(3))
    assert [wait_numbers(page, 3) for page in pages] == [[0, 1, 2]] * 3
    assert site.connections() == 2


def sign_in(site: Site, page: Page, user: str) -> None:
    """Close the hub of a tab, sign in as another user (empty: sign out), and connect again."""
    page.evaluate("() => hub.close()")
    site.sign_ins.append(user)
    page.evaluate("() => hub.connect()")


@pytest.mark.parametrize("fragment", ["as=", "as=ann"], ids=["own connection", "shared connection"])
def test_next_user_of_a_tab_connects_with_a_token_of_their_own(site: Site, fragment: str) -> None:
    pages = [site.open(fragment) for _ in range(2)]
    for page in pages:
        sign_in(site, page, "8")
        page.wait_for_function("() => hub.user === '8'")
        page.wait_for_function("() => channel.state === 'subscribed'")
    assert site.token_requests[-1] == "8"
    site.publish(range(3))
    assert [wait_numbers(page, 3) for page in pages] == [[0, 1, 2]] * 2
    site.wait_connections(1 if fragment == "as=ann" else 2)


@pytest.mark.parametrize("fragment", ["as=", "as=ann"], ids=["own connection", "shared connection"])
def test_signed_out_tab_does_not_connect(site: Site, fragment: str) -> None:
    leader, follower = site.open(fragment), site.open(fragment)
    sign_in(site, follower, "")
    follower.wait_for_function("() => hub.state === 'closed'")
    assert follower.evaluate("() => [hub.user, hub.error.code]") == [None, "unauthorized"]
    assert leader.evaluate("() => [hub.user, hub.state]") == ["7", "connected"]


def test_revoked_tab_requests_a_new_token(site: Site) -> None:
    page = site.open("as=")
    with Emitter(site.hub.url, api_key=API_KEY) as emitter:
        emitter.revoke(user="7", for_s=600)
    page.wait_for_function("() => hub.state === 'closed'")
    assert page.evaluate("() => hub.error.code") == "revoked"
    site.sign_ins.append("8")
    page.evaluate("() => hub.connect()")
    page.wait_for_function("() => hub.user === '8'")


def test_without_web_locks_each_tab_has_its_own_connection(site: Site) -> None:
    pages = [site.open("without=locks") for _ in range(2)]
    site.publish(range(3))
    assert [wait_numbers(page, 3) for page in pages] == [[0, 1, 2]] * 2
    assert site.connections() == 2


def test_sharing_tabs_acknowledge_once(site: Site) -> None:
    tabs = [site.open(), site.open()]
    site.wait_connections(1)
    with Emitter(site.hub.url, api_key=API_KEY) as emitter:
        receipt = emitter.emit("updated", {"n": 1}, channel="orders:all", ack=True)
        report = receipt.wait(acks=1, timeout_s=20)
    assert (report.recipients, report.acks) == (1, 1)
    for tab in tabs:
        tab.wait_for_function("() => received.length === 1")
        assert numbers(tab) == [1]
