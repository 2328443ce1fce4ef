"""`<tidings-inbox>` in Chromium, under a strict content security policy, with a store of the page."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from support.browsers.chromium import SDK, chromium

_URL = "http://shop.test/"
_POLICY = "default-src 'none'; script-src 'self'; require-trusted-types-for 'script'; trusted-types 'none'"
_PAGE = """<!doctype html><html lang="en"><title>page</title><main><tidings-inbox></tidings-inbox></main>
<script src="/tidings-inbox.js"></script><script src="/store.js"></script></html>"""
# `calls` has what the element did with the store.
_STORE = """
const calls = [], listeners = new Set(), violations = [];
document.addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
const item = (id, more) => ({
  id, category: "order_shipped", title: `title ${id}`, body: null, url: null, icon: null, count: 1,
  created_at: Date.now(), seen_at: null, read_at: null, archived_at: null, ...more,
});
let snapshot = { items: [], counts: { unseen: 0, unread: 0 }, state: "ready", error: undefined, hasMore: false };
function set(change) {
  snapshot = { ...snapshot, ...change };
  listeners.forEach((listener) => listener());
}
const note = (name) => async (...values) => void calls.push([name, ...values]);
const inbox = {
  subscribe: (listener) => (listeners.add(listener), () => listeners.delete(listener)),
  getSnapshot: () => snapshot,
  markAllSeen: async () => {
    calls.push(["markAllSeen"]);
    set({ counts: { ...snapshot.counts, unseen: 0 } });
  },
  preferences: async () => [
    { category: "news", label: "News", required: false, methods: { in_app: true } },
    { category: "order_shipped", label: "Shipping", required: false, methods: { in_app: true, webhook: true } },
    { category: "new_price", label: "new_price", required: true, methods: { in_app: true, web_push: true } },
  ],
  setPreference: async (category) => { if (category === "news") { throw new Error("refused"); } },
};
for (const name of ["loadMore", "markRead", "markUnread", "markAllRead", "archive"]) {
  inbox[name] = note(name);
}
document.querySelector("tidings-inbox").inbox = inbox;
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page with the element, whose policy was never violated."""
    page = browser.new_page()
    page.set_default_timeout(6000)
    page_errors: list[str] = []
    page.on("pageerror", lambda error: page_errors.append(str(error)))

    def serve(route: Route) -> None:
        name = route.request.url.removeprefix(_URL)
        if name == "tidings-inbox.js":
            route.fulfill(path=SDK.with_name(name))
        elif name == "store.js":
            route.fulfill(body=_STORE, content_type="text/javascript")
        else:
            policy = {"Content-Security-Policy": _POLICY}
            route.fulfill(body=_PAGE, content_type="text/html", headers=policy)

    page.route("**/*", serve)
    page.goto(_URL)
    yield page
    assert page.evaluate("violations") == []
    assert page_errors == []
    page.close()


def _show(page: Page, *items: dict[str, object], unseen: int = 0) -> None:
    counts = {"unseen": unseen, "unread": len(items)}
    page.evaluate(
        f"set({{ items: {json.dumps(items)}.map((more) => item(more.id, more)), counts: {json.dumps(counts)} }})"
    )


def _open(page: Page) -> None:
    page.get_by_role("button", name="Notifications,").click()


def test_badge_counts_and_opening_marks_as_seen(page: Page) -> None:
    _show(page, {"id": "a"}, unseen=120)
    badge = page.locator(".badge")
    expect(badge).to_have_text("99+")
    _open(page)
    expect(badge).to_be_hidden()
    assert page.evaluate("calls") == [["markAllSeen"]]


def test_data_is_text_and_only_web_addresses_are_links(page: Page) -> None:
    _show(
        page,
        {"id": "a", "title": "<img src=x onerror=calls.push(1)>", "url": "javascript:calls.push(2)"},
        {"id": "b", "url": "/orders/42"},
    )
    _open(page)
    expect(page.locator("li img")).to_have_count(0)
    expect(page.get_by_text("<img src=x")).to_be_visible()
    assert page.locator("li a").evaluate_all("links => links.map((link) => link.href)") == [f"{_URL}orders/42"]
    page.get_by_text("<img src=x").click()
    assert page.evaluate("calls") == [["markRead", ["a"]]]


def test_keyboard_moves_through_the_list_and_focus_returns_to_the_bell(page: Page) -> None:
    _show(page, {"id": "a"}, {"id": "b"})
    _open(page)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    # A change elsewhere keeps the focus, also if it replaces the row.
    _show(page, {"id": "a"}, {"id": "b", "read_at": 1})
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    assert page.evaluate("calls") == [["markRead", ["a"]]]
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("button", name="Notifications,")).to_be_focused()


def test_actions_of_a_row_and_of_the_list(page: Page) -> None:
    _show(page, {"id": "a"}, {"id": "b", "read_at": 1})
    _open(page)
    page.get_by_role("listitem").first.hover()
    page.get_by_role("button", name="Mark as read", exact=True).click()
    page.get_by_role("listitem").last.hover()
    page.get_by_role("button", name="Mark as unread").click()
    page.get_by_role("button", name="Archive").last.click()
    page.get_by_role("button", name="Mark all as read").click()
    assert page.evaluate("calls") == [["markRead", ["a"]], ["markUnread", ["b"]], ["archive", ["b"]], ["markAllRead"]]
    page.get_by_role("tab", name="Unread").click()
    expect(page.get_by_role("listitem")).to_have_count(1)


def test_empty_and_failed_lists_have_a_message(page: Page) -> None:
    _open(page)
    expect(page.get_by_text("You're all caught up")).to_be_visible()
    page.evaluate('set({ state: "failed" })')
    page.get_by_role("button", name="Try again").click()
    assert page.evaluate("calls") == [["loadMore"]]


def test_refused_preference_is_switched_back(page: Page) -> None:
    _open(page)
    page.get_by_role("button", name="Preferences").click()
    switch = page.get_by_role("group", name="News").get_by_role("switch", name="In app")
    switch.click()
    expect(page.get_by_text("That did not work")).to_be_visible()
    expect(switch).to_be_checked()
    page.get_by_role("button", name="Back").click()
    expect(page.get_by_role("tab", name="All")).to_be_visible()


def test_rows_and_preferences_have_the_labels_of_categories(page: Page) -> None:
    _show(page, {"id": "a"}, {"id": "b", "category": "new_price"}, {"id": "c", "category": "of_an_older_file"})
    _open(page)
    categories = page.locator("[part=category]")
    expect(categories).to_have_text(["Shipping", "New price", "Of an older file"])
    _show(page, {"id": "a"}, {"id": "d"})
    expect(categories).to_have_text(["Shipping", "Shipping"])
    page.get_by_role("button", name="Preferences").click()
    expect(page.locator("legend")).to_have_text(["News", "Shipping", "New priceAlways on"])


def test_other_methods_are_disabled_while_a_category_is_off(page: Page) -> None:
    _open(page)
    page.get_by_role("button", name="Preferences").click()
    group = page.get_by_role("group", name="Shipping")
    in_app, webhook = group.get_by_role("switch", name="In app"), group.get_by_role("switch", name="Email or message")
    expect(webhook).to_be_enabled()
    in_app.click()
    expect(webhook).to_be_disabled()
    in_app.click()
    expect(webhook).to_be_enabled()
    expect(page.get_by_role("group", name="New price").get_by_role("switch", name="Push")).to_be_disabled()


def test_panel_is_as_high_as_its_list_and_the_number_of_a_tab_is_a_word(page: Page) -> None:
    page.set_viewport_size({"width": 900, "height": 900})
    _show(page, {"id": "a"})
    _open(page)
    panel = page.get_by_role("dialog")
    short = panel.bounding_box()
    _show(page, *({"id": str(number)} for number in range(30)))
    expect(page.get_by_role("tab", name="Unread 30", exact=True)).to_be_visible()
    long = panel.bounding_box()
    assert short is not None
    assert long is not None
    assert (round(short["height"]), round(long["height"])) == (340, 580)


def test_thousand_notifications_reuse_their_rows(page: Page) -> None:
    page.evaluate("set({ items: Array.from({ length: 1000 }, (_, n) => item(`${n}`, {})) })")
    _open(page)
    page.evaluate("window.rows = [...document.querySelector('tidings-inbox').shadowRoot.querySelectorAll('li')]")
    page.evaluate("set({ items: [item('new', {}), ...snapshot.items] })")
    reused = """[...document.querySelector('tidings-inbox').shadowRoot.querySelectorAll('li')].slice(1)
        .every((row, n) => row === rows[n])"""
    assert page.evaluate("rows.length") == 1000
    assert page.evaluate(reused)
