"""The inbox in real Chromiums, with a real hub and service: devices and tabs stay in step."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from support.notification_node import NotificationNode
from support.processes.hub import token
from support.waiting import wait_until
from tidings_notifications.inbox import Inbox
from tidings_notifications.store.database import Database

WAIT_MS = 30_000
# Everything that a page needs, from the script of the element alone.
ALONE = """<!doctype html><title>alone</title><script src="/tidings-inbox.js"></script>
<tidings-inbox url="/" token="%(token)s"></tidings-inbox>"""
SHARED = """<!doctype html><title>shared</title>
<script src="/tidings.js"></script><script src="/tidings-inbox.js"></script><tidings-inbox></tidings-inbox>
<script>
  const hub = tidings.connect("/", { getToken: () => "%(token)s", shareTabs: true });
  const element = document.querySelector("tidings-inbox");
  hub.inbox().then((inbox) => (element.inbox = inbox));
</script>"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotificationNode]:
    process = NotificationNode(tmp_path_factory.mktemp("node"), options="user_requests_per_minute = 60000")
    try:
        yield process.start()
    finally:
        process.stop()


class Device:
    """A browser of its own, with pages of the hub's origin."""

    def __init__(self, browser: Browser, node: NotificationNode, user: str) -> None:
        self.node = node
        self.user = user
        self.context: BrowserContext = browser.new_context()
        self.page_errors: list[str] = []
        for path, text in (("alone", ALONE), ("shared", SHARED)):
            self._serve(path, text % {"token": token(user)})

    def _serve(self, path: str, body: str) -> None:
        self.context.route(f"**/{path}", lambda route: route.fulfill(body=body, content_type="text/html"))

    def open(self, path: str) -> Page:
        """A page whose inbox is loaded."""
        page = self.context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: self.page_errors.append(str(error)))
        page.goto(f"{self.node.hub.url}/{path}")
        page.wait_for_function("() => document.querySelector('tidings-inbox').snapshot.state === 'ready'")
        return page

    def close(self) -> None:
        """End it. No page had an error."""
        with suppress(Exception):
            self.context.set_offline(offline=False)
        self.context.close()
        assert self.page_errors == []


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    return re.sub("[^a-z]+", "-", request.node.name)


@pytest.fixture
def devices(browser: Browser, node: NotificationNode, user: str) -> Iterator[list[Device]]:
    devices = [Device(browser, node, user) for _ in range(2)]
    yield devices
    for device in devices:
        device.close()


def snapshot(page: Page) -> dict[str, Any]:
    """Titles of all and of unread notifications, and the counts, as a page has them."""
    return dict(
        page.evaluate("""() => {
          const { items, counts } = document.querySelector("tidings-inbox").snapshot;
          const unread = items.filter((item) => item.read_at === null);
          return { titles: items.map(({ title }) => title), unread: unread.map(({ title }) => title), counts };
        }""")
    )


def expect_all(pages: list[Page], expected: dict[str, Any]) -> None:
    """Every page shows this in the end."""
    wait_until(
        lambda: all(snapshot(page) == expected for page in pages),
        why=lambda: json.dumps([snapshot(page) for page in pages]),
    )


def expect_counts_of_database(node: NotificationNode, user: str, page: Page) -> None:
    database = Database(node.database.url)
    try:
        stored, counted = Inbox(database, {}).recount(user)
    finally:
        database.close()
    assert stored.to_wire() == counted.to_wire() == snapshot(page)["counts"]


def mark(page: Page, call: str) -> None:
    page.evaluate(f"() => document.querySelector('tidings-inbox').inbox.{call}")


def ids(page: Page, title: str) -> str:
    script = """(wanted) => {
      const { items } = document.querySelector("tidings-inbox").snapshot;
      return items.filter(({ title }) => title === wanted).map(({ id }) => id);
    }"""
    return json.dumps(page.evaluate(script, title))


@pytest.mark.parametrize("path", ["alone", "shared"])
def test_devices_and_tabs_stay_in_step(devices: list[Device], node: NotificationNode, user: str, path: str) -> None:
    # Two tabs here, one there: with `shared` the tabs of a device have one connection.
    pages = [devices[0].open(path), devices[0].open(path), devices[0].open(path), devices[1].open(path)]
    for title in ("one", "two", "three"):
        node.store(user, title, title=title)
    titles = ["three", "two", "one"]
    expect_all(pages, {"titles": titles, "unread": titles, "counts": {"unseen": 3, "unread": 3}})
    mark(pages[1], f"markRead({ids(pages[1], 'two')})")
    expect_all(pages, {"titles": titles, "unread": ["three", "one"], "counts": {"unseen": 2, "unread": 2}})
    mark(pages[3], f"archive({ids(pages[3], 'one')})")
    expect_all(pages, {"titles": ["three", "two"], "unread": ["three"], "counts": {"unseen": 1, "unread": 1}})
    mark(pages[2], "markAllRead()")
    expect_all(pages, {"titles": ["three", "two"], "unread": [], "counts": {"unseen": 0, "unread": 0}})
    expect_counts_of_database(node, user, pages[0])


def test_device_that_was_offline_catches_up(devices: list[Device], node: NotificationNode, user: str) -> None:
    pages = [devices[0].open("alone"), devices[1].open("alone")]
    node.store(user, "before", title="before")
    expect_all(pages, {"titles": ["before"], "unread": ["before"], "counts": {"unseen": 1, "unread": 1}})
    devices[0].context.set_offline(offline=True)
    node.store(user, "meanwhile", title="meanwhile")
    expect_all(pages[1:], {"titles": ["meanwhile", "before"], "unread": ["meanwhile", "before"],
                           "counts": {"unseen": 2, "unread": 2}})  # fmt: skip
    mark(pages[1], f"markRead({ids(pages[1], 'before')})")
    devices[0].context.set_offline(offline=False)
    expect_all(pages, {"titles": ["meanwhile", "before"], "unread": ["meanwhile"],
                       "counts": {"unseen": 1, "unread": 1}})  # fmt: skip
    expect_counts_of_database(node, user, pages[0])


def test_the_bell_counts_and_the_panel_marks(devices: list[Device], node: NotificationNode, user: str) -> None:
    first, second = devices[0].open("alone"), devices[1].open("alone")
    node.store(user, "a", title="Ada replied", body="<b>Looks</b> good", url="/orders/1")
    bell = first.get_by_role("button", name=re.compile("1"))
    expect(bell).to_be_visible(timeout=WAIT_MS)
    bell.click()
    expect(first.get_by_text("<b>Looks</b> good")).to_be_visible(timeout=WAIT_MS)
    # What the panel shows is seen, on every device.
    expect_all([first, second], {"titles": ["Ada replied"], "unread": ["Ada replied"],
                                 "counts": {"unseen": 0, "unread": 1}})  # fmt: skip
    first.get_by_role("button", name="Mark all as read").click()
    expect_all([first, second], {"titles": ["Ada replied"], "unread": [], "counts": {"unseen": 0, "unread": 0}})


def test_archive_tab_and_a_category_that_is_turned_off(
    devices: list[Device], node: NotificationNode, user: str
) -> None:
    first, second = devices[0].open("shared"), devices[1].open("alone")
    for title in ("one", "two"):
        node.store(user, title, title=title)
    expect_all([first, second], {"titles": ["two", "one"], "unread": ["two", "one"],
                                 "counts": {"unseen": 2, "unread": 2}})  # fmt: skip
    first.get_by_role("button", name="Notifications,").click()
    first.get_by_role("tab", name="Archived").click()
    expect(first.get_by_text("Nothing is archived")).to_be_visible(timeout=WAIT_MS)
    # Another device archives one: the open tab has it at once, and gives it back.
    mark(second, f"archive({ids(second, 'one')})")
    item = first.get_by_role("listitem").filter(has_text="one")
    expect(item).to_be_visible(timeout=WAIT_MS)
    item.hover()
    item.get_by_role("button", name="Move to inbox").click()
    expect(item).to_be_hidden(timeout=WAIT_MS)
    expect_all([first, second], {"titles": ["two", "one"], "unread": ["two", "one"],
                                 "counts": {"unseen": 0, "unread": 2}})  # fmt: skip
    first.get_by_role("tab", name="All").click()
    first.get_by_role("listitem").first.hover()
    first.get_by_role("button", name="More actions").first.click()
    first.get_by_role("menuitem", name=re.compile("Turn off")).click()
    expect(first.get_by_role("button", name="Undo")).to_be_visible(timeout=WAIT_MS)
    preferences = first.evaluate("() => element.inbox.preferences()")
    assert not next(entry for entry in preferences if entry["category"] == "order_shipped")["methods"]["in_app"]
    expect_counts_of_database(node, user, first)


def test_element_that_leaves_the_page_closes_its_connection(devices: list[Device]) -> None:
    page = devices[0].open("alone")
    page.evaluate("() => (globalThis.removed = document.querySelector('tidings-inbox')).remove()")
    assert page.evaluate("() => removed.inbox") is None
    page.evaluate("() => document.body.append(removed)")
    page.wait_for_function("() => removed.snapshot.state === 'ready'")


def test_hub_that_cannot_be_reached_shows_the_error_and_a_retry(devices: list[Device], node: NotificationNode) -> None:
    page = devices[0].context.new_page()
    page.set_default_timeout(WAIT_MS)
    blocked = True
    page.route("**/tidings.js", lambda route: route.abort() if blocked else route.continue_())
    page.goto(f"{node.hub.url}/alone")
    page.wait_for_function("() => document.querySelector('tidings-inbox').snapshot.state === 'failed'")
    page.get_by_role("button").first.click()
    blocked = False
    page.get_by_role("button", name=re.compile("again|retry", re.IGNORECASE)).click()
    page.wait_for_function("() => document.querySelector('tidings-inbox').snapshot.state === 'ready'")
