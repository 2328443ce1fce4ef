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
PATIENCE_MS = 60_000.0
# Where a takeover has succeeded in any case. It takes some ten milliseconds.
TAKEOVER_MAX_MS = 5000.0
# The part after # says what a tab listens to and as whom it shares.
PAGE = """<!doctype html>
<script>
  const given = new URLSearchParams(location.hash.slice(1));
  if (given.has("without")) delete Navigator.prototype[given.get("without")];
</script>
<script src="%s/tidings.js"></script>
<script>
  const got = [], told = [], states = [];
  const token = async () => (await fetch("/token")).text();
  const hub = tidings.connect("%s", { getToken: token, shareTabs: given.get("as") ?? true });
  hub.on("state", (state) => states.push({ state, atMs: performance.now() }));
  const channel = hub.channel(given.get("channel") ?? "orders:all");
  channel.on("updated", (data) => got.push({ n: data.n, atMs: performance.now() }));
  for (const event of ["tidings:gap", "tidings:recovered"]) channel.on(event, () => told.push(event));
</script>
"""


class Site:
    """A hub, a backend that serves the page, and a browser. `asked` has a line for each token that was asked for."""

    def __init__(self, hub: HubProcess, origin: str, context: BrowserContext, asked: list[str]) -> None:
        self.hub = hub
        self.asked = asked
        self._origin = origin
        self._context = context

    def open(self, given: str = "") -> Page:
        """A tab, once it is subscribed."""
        page = self._context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(f"{self._origin}/#{given}")
        page.wait_for_function("() => channel.state === 'subscribed'")
        return page

    def connections(self) -> int:
        """How many the hub has."""
        return len(self.hub.get("/api/connections")[1]["connections"])

    def wait_connections(self, count: int) -> None:
        """Wait until the hub has so many."""
        wait_until(lambda: self.connections() == count, why=f"{count} connections")

    def publish(self, numbers: range, channel: str = "orders:all") -> None:
        """Publish so many, one after the other."""
        for number in numbers:
            self.hub.publish(channel, "updated", {"n": number})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    asked: list[str] = []

    def give() -> str:
        asked.append("token")
        return token("7", "orders:*")

    files: dict[str, Callable[[], str]] = {"/token": give}
    with serve_pages(files) as origin, sync_playwright() as playwright:
        hub = HubProcess(tmp_path, extra=f'origins = ["{origin}"]\n').start()
        browser = playwright.chromium.launch(executable_path=program("chromium"), headless=True, args=FLAGS)
        try:
            files["/"] = lambda: PAGE % (hub.url, hub.url)
            yield Site(hub, origin, browser.new_context(), asked)
        finally:
            browser.close()
            hub.stop()


@contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[None]:
    """Does it beside the block, and waits for it at its end."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def numbers(page: Page) -> list[int]:
    """What a tab got."""
    return [one["n"] for one in page.evaluate("() => got")]


def wait_numbers(page: Page, count: int) -> list[int]:
    """What a tab got, once it is so much, and a moment later: more would be too much."""
    page.wait_for_function(f"() => got.length >= {count}")
    page.wait_for_timeout(200)
    return numbers(page)


def away_ms(page: Page) -> float:
    """How long a tab was not connected, the last time."""
    states: list[dict[str, Any]] = page.evaluate("() => states")
    lost = max(each["atMs"] for each in states if each["state"] == "waiting")
    back = max(each["atMs"] for each in states if each["state"] == "connected")
    return float(back - lost)


def test_three_tabs_one_connection_one_token(site: Site) -> None:
    pages = [site.open(), site.open(), site.open("channel=orders:other")]
    assert site.connections() == 1
    assert len(site.asked) == 1
    site.publish(range(20))
    site.publish(range(100, 105), "orders:other")
    assert [wait_numbers(page, 20) for page in pages[:2]] == [list(range(20))] * 2
    assert wait_numbers(pages[2], 5) == list(range(100, 105))
    assert [page.evaluate("() => [hub.user, hub.transport]") for page in pages] == [["7", "websocket"]] * 3
    # Closing one hub ends that tab's part alone, and the leader's hub as well.
    for page in pages[1:]:
        page.evaluate("() => hub.close()")
    pages[0].evaluate("() => hub.close()")
    site.wait_connections(0)
    pages[1].evaluate("() => hub.connect()")
    pages[1].wait_for_function("() => hub.state === 'connected'")
    site.publish(range(20, 25))
    assert wait_numbers(pages[1], 25) == list(range(25))
    assert pages[0].evaluate("() => hub.state") == "closed"


def test_the_leader_is_closed_while_publications_pour_in(
    site: Site, record_property: Callable[[str, object], None]
) -> None:
    pages = [site.open() for _ in range(4)]
    with meanwhile(lambda: site.publish(range(400))):
        for leader in pages[:2]:
            leader.wait_for_timeout(300)
            leader.close()
    left = pages[2:]
    assert [wait_numbers(page, 400) for page in left] == [list(range(400))] * 2
    assert [page.evaluate("() => told") for page in left] == [["tidings:recovered"] * 2] * 2
    site.wait_connections(1)
    took_ms = max(away_ms(page) for page in left)
    record_property("takeover_ms", took_ms)
    assert took_ms < TAKEOVER_MAX_MS


def test_a_leader_that_crashes_and_one_tab_that_is_left_at_last(site: Site) -> None:
    pages = [site.open() for _ in range(3)]
    site.publish(range(10))
    # Its renderer dies where it stands: no page is left that could say a word.
    with pytest.raises(Error, match="crash"):
        pages[0].goto("chrome://crash")
    site.publish(range(10, 20))
    assert wait_numbers(pages[1], 20) == wait_numbers(pages[2], 20) == list(range(20))
    pages[1].close()
    site.publish(range(20, 30))
    assert wait_numbers(pages[2], 30) == list(range(30))
    assert pages[2].evaluate("() => told") == ["tidings:recovered"] * 2
    site.wait_connections(1)


def test_a_leader_that_is_to_be_frozen_hands_over_and_follows_when_it_goes_on(site: Site) -> None:
    leader, follower = site.open(), site.open()
    site.publish(range(5))
    assert wait_numbers(leader, 5) == wait_numbers(follower, 5)
    # What the browser says before it freezes a hidden page; a visible one it does not freeze.
    leader.evaluate("() => document.dispatchEvent(new Event('freeze'))")
    follower.wait_for_function("() => told.length === 1")
    site.publish(range(5, 10))
    leader.evaluate("() => document.dispatchEvent(new Event('resume'))")
    assert wait_numbers(leader, 10) == wait_numbers(follower, 10) == list(range(10))
    assert leader.evaluate("() => told") == follower.evaluate("() => told") == ["tidings:recovered"]
    site.wait_connections(1)


def test_another_channel_survives_its_leader(site: Site) -> None:
    leader, follower = site.open(), site.open("channel=orders:other")
    site.publish(range(5), "orders:other")
    with meanwhile(lambda: site.publish(range(5, 100), "orders:other")):
        leader.wait_for_timeout(100)
        leader.reload()
        leader.wait_for_function("() => channel.state === 'subscribed'")
    assert wait_numbers(follower, 100) == list(range(100))
    assert follower.evaluate("() => told") == ["tidings:recovered"]
    site.publish(range(3))
    assert wait_numbers(leader, 3) == [0, 1, 2]
    site.wait_connections(1)


def test_back_and_forward(site: Site) -> None:
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


def test_other_users_meet_others(site: Site) -> None:
    pages = [site.open("as=ann"), site.open("as=ben"), site.open("as=ann")]
    site.publish(range(3))
    assert [wait_numbers(page, 3) for page in pages] == [[0, 1, 2]] * 3
    assert site.connections() == 2


def test_where_locks_are_missing_each_tab_has_its_own(site: Site) -> None:
    pages = [site.open("without=locks") for _ in range(2)]
    site.publish(range(3))
    assert [wait_numbers(page, 3) for page in pages] == [[0, 1, 2]] * 2
    assert site.connections() == 2


def test_tabs_that_share_acknowledge_as_the_one_connection_that_they_are(site: Site) -> None:
    tabs = [site.open(), site.open()]
    site.wait_connections(1)
    with Emitter(site.hub.url, api_key=API_KEY) as emitter:
        receipt = emitter.emit("updated", {"n": 1}, channel="orders:all", ack=True)
        report = receipt.wait(acks=1, timeout_s=20)
    assert (report.recipients, report.acks) == (1, 1)
    for tab in tabs:
        tab.wait_for_function("() => got.length === 1")
        assert numbers(tab) == [1]
