"""Publishes that outlive their page, in a real IndexedDB, with Web Locks and a real hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from support.browsers.chromium import SDK
from support.processes.hub import HubProcess, token
from support.waiting import wait_until

_PAGE = """<!doctype html><title>page</title><script src="/tidings.js"></script><script>
  const errors = [], receipts = [];
  const hub = tidings.connect(%(url)s, {
    getToken: %(get_token)s, keepQueueAs: "queue", requestTimeoutMs: 600000,
  });
  hub.on("error", (error) => errors.push([error.code, error.channel]));
  const publish = (n) => hub.channel(%(channel)s).publish("said", { n }, { id: `id-${n}` }).then(
    (receipt) => receipts.push(receipt.id), (error) => receipts.push(error.code));
  const waiting = () => new Promise((resolve) => {
    const opening = indexedDB.open("tidings queue", 1);
    opening.onsuccess = () => {
      const request = opening.result.transaction("publishes").objectStore("publishes").getAll();
      request.onsuccess = () => { opening.result.close(); resolve(request.result.map(({ body }) => body.data.n)); };
    };
  });
</script>"""


_DELETE = """new Promise((resolve) => { indexedDB.deleteDatabase("tidings queue").onsuccess = resolve; })"""
_OPEN = """new Promise((resolve) => {
  indexedDB.open("tidings queue", 1).onsuccess = ({ target }) => { window.database = target.result; resolve(); };
})"""


@pytest.fixture
def channel(request: pytest.FixtureRequest) -> str:
    """A channel for each test."""
    return f"chat:{request.node.name}"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    process = HubProcess(tmp_path_factory.mktemp("hub")).start()
    yield process
    process.stop()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser with its own database."""
    context = browser.new_context()
    yield context
    context.close()


def _open(context: BrowserContext, hub: HubProcess, channel: str, user: str | None = "7") -> Page:
    """A page of the hub's origin, which the test itself serves: it can be loaded offline. None: it has no token yet."""
    get_token = f"() => {json.dumps(token(user))}" if user else '() => Promise.reject(new Error("offline"))'
    body = _PAGE % {"url": json.dumps(hub.url), "get_token": get_token, "channel": json.dumps(channel)}
    page = context.new_page()
    page.route(f"{hub.url}/page", lambda route: route.fulfill(body=body, content_type="text/html"))
    page.route(f"{hub.url}/tidings.js", lambda route: route.fulfill(path=SDK))
    page.goto(f"{hub.url}/page")
    return page


def _connected(page: Page) -> None:
    wait_until(lambda: page.evaluate("hub.state") == "connected", within_s=60, why="the page is connected")


def _publish(page: Page, *numbers: int) -> None:
    for number in numbers:
        page.evaluate(f"void publish({number})")
    wait_until(lambda: set(numbers) <= set(page.evaluate("waiting()")), why="the publishes are in IndexedDB")


def _history(hub: HubProcess, channel: str) -> list[Any]:
    answer = hub.get(f"/api/channels/{channel}/history?limit=100")[1]
    return [publication["data"]["n"] for publication in answer["publications"]]


def _wait_for_history(hub: HubProcess, channel: str, *numbers: int) -> None:
    wait_until(lambda: len(_history(hub, channel)) >= len(numbers), within_s=60, why=f"publications {numbers}")
    assert _history(hub, channel) == list(numbers)


def test_publishes_of_an_offline_page_are_sent_by_the_next_one(
    context: BrowserContext, hub: HubProcess, channel: str
) -> None:
    page = _open(context, hub, channel)
    _connected(page)
    context.set_offline(True)
    _publish(page, 1, 2)
    page.reload()
    _publish(page, 3)
    page.close()
    context.set_offline(False)
    page = _open(context, hub, channel)
    page.evaluate("void publish(4)")
    _wait_for_history(hub, channel, 1, 2, 3, 4)
    wait_until(lambda: page.evaluate("waiting()") == [], why="nothing waits any more")
    assert page.evaluate("[errors, receipts]") == [[], ["id-4"]]


def test_publish_that_was_sent_already_is_published_once(
    context: BrowserContext, hub: HubProcess, channel: str
) -> None:
    page = _open(context, hub, channel)
    _connected(page)
    hub.pause()
    _publish(page, 1)
    wait_until(
        lambda: page.evaluate("hub.state") == "connected" and page.evaluate("waiting()") == [1], why="it was sent"
    )
    page.close()
    hub.resume()
    page = _open(context, hub, channel)
    wait_until(lambda: page.evaluate("waiting()") == [], within_s=60, why="it has a response")
    assert _history(hub, channel) == [1]


def test_publishes_of_another_user_are_dropped(context: BrowserContext, hub: HubProcess, channel: str) -> None:
    page = _open(context, hub, channel)
    _connected(page)
    context.set_offline(True)
    _publish(page, 1)
    page.close()
    context.set_offline(False)
    page = _open(context, hub, channel, user="8")
    wait_until(lambda: page.evaluate("errors.length > 0 && hub.state === 'connected'"), within_s=60, why="the error")
    assert page.evaluate("errors") == [["closed", channel]]
    assert page.evaluate("waiting()") == []
    page.evaluate("void publish(2)")
    _wait_for_history(hub, channel, 2)


def test_publishes_of_a_user_that_was_never_known_are_dropped(
    context: BrowserContext, hub: HubProcess, channel: str
) -> None:
    context.set_offline(True)
    page = _open(context, hub, channel, user=None)
    _publish(page, 1)
    page.close()
    context.set_offline(False)
    page = _open(context, hub, channel)
    wait_until(lambda: page.evaluate("errors.length > 0 && hub.state === 'connected'"), within_s=60, why="the error")
    assert page.evaluate("errors") == [["closed", channel]]
    assert page.evaluate("waiting()") == []
    page.evaluate("void publish(2)")
    _wait_for_history(hub, channel, 2)


def test_publish_before_the_first_connection_belongs_to_the_user_who_then_connects(
    context: BrowserContext, hub: HubProcess, channel: str
) -> None:
    page = _open(context, hub, channel)
    _connected(page)
    page.evaluate("hub.close()")
    hub.pause()
    page.evaluate("hub.connect()")
    _publish(page, 1)
    page.close()
    hub.resume()
    # The page ended before a hub named the user, but after it had a token of that user.
    page = _open(context, hub, channel)
    _wait_for_history(hub, channel, 1)


def test_a_page_that_still_runs_sends_its_own(context: BrowserContext, hub: HubProcess, channel: str) -> None:
    first = _open(context, hub, channel)
    _connected(first)
    context.set_offline(True)
    _publish(first, 1)
    second = _open(context, hub, channel)
    _publish(second, 2)
    context.set_offline(False)
    for page, number in ((second, 2), (first, 1)):
        page.evaluate("hub.connect()")
        wait_until(lambda page=page: page.evaluate("receipts.length") == 1, within_s=60, why="a receipt")  # type: ignore[misc]
        assert page.evaluate("receipts") == [f"id-{number}"]
    assert sorted(_history(hub, channel)) == [1, 2]


def test_closed_hub_drops_what_waits(context: BrowserContext, hub: HubProcess, channel: str) -> None:
    page = _open(context, hub, channel)
    _connected(page)
    context.set_offline(True)
    _publish(page, 1)
    page.evaluate("hub.close()")
    wait_until(lambda: page.evaluate("waiting()") == [], why="it is removed")
    assert page.evaluate("receipts") == ["closed"]


def test_publish_before_a_close_is_not_sent_by_the_next_user(
    context: BrowserContext, hub: HubProcess, channel: str
) -> None:
    page = _open(context, hub, channel)
    _connected(page)
    # In one task: the first publish is still on its way to the database when the hub connects again.
    page.evaluate("(() => { publish(1); hub.close(); hub.connect(); publish(2); })()")
    _wait_for_history(hub, channel, 2)
    wait_until(lambda: page.evaluate("waiting()") == [], why="nothing waits any more")
    assert page.evaluate("receipts") == ["closed", "id-2"]


def test_without_its_database_a_publish_is_sent_all_the_same(
    context: BrowserContext, hub: HubProcess, channel: str
) -> None:
    page = _open(context, hub, channel)
    _connected(page)
    page.evaluate("publish(1)")
    page.evaluate(_DELETE)
    page.evaluate("publish(2)")
    _wait_for_history(hub, channel, 1, 2)
    assert page.evaluate("receipts") == ["id-1", "id-2"]
    assert page.evaluate("errors.map(([code]) => code)")[:1] == ["not_loaded"]


def test_database_that_does_not_open_holds_no_publish_up(
    context: BrowserContext, hub: HubProcess, channel: str
) -> None:
    other = context.new_page()
    other.route(f"{hub.url}/other", lambda route: route.fulfill(body="", content_type="text/html"))
    other.goto(f"{hub.url}/other")
    # A deletion waits for this tab, and every opening waits for the deletion.
    other.evaluate(_OPEN)
    other.evaluate(f"void {_DELETE}")
    page = _open(context, hub, channel)
    _connected(page)
    page.evaluate("void publish(1)")
    _wait_for_history(hub, channel, 1)
    wait_until(lambda: page.evaluate("receipts") == ["id-1"], why="the receipt arrives")
    assert page.evaluate("errors.map(([code]) => code)")[:1] == ["not_loaded"]


def test_bytes_are_refused_as_without_a_queue(context: BrowserContext, hub: HubProcess, channel: str) -> None:
    page = _open(context, hub, channel)
    _connected(page)
    for data in ("new Uint8Array(2)", "new ArrayBuffer(2)", 'new Blob(["x"])', '{file: new File(["x"], "x.txt")}'):
        publish = f"hub.channel({json.dumps(channel)}).publish('said', {data})"
        assert page.evaluate(f"{publish}.then(() => 'published', ({{code}}) => code)") == "bad_data", data
    assert _history(hub, channel) == []
