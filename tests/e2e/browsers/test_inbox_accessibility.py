"""axe-core looks at `<tidings-inbox>` in every state."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page

from support.processes.hub import ROOT

AXE = ROOT / "sdk_js" / "node_modules" / "axe-core" / "axe.min.js"
PAGE = """<!doctype html><html lang="en"><title>page</title><body style="color-scheme: light dark">
<header><h1>Shop</h1><tidings-inbox></tidings-inbox></header><main><p>Hello</p></main>
<script src="/tidings-inbox.js"></script>"""
ITEM = """{ id: "1", category: "order_shipped", title: "It has shipped", body: "On Friday", url: "/orders/42", count: 3,
  created_at: Date.now() - 3_600_000, seen_at: null, read_at: null, archived_at: null }"""
SNAPSHOT = "{ items: %s, counts: { unseen: %d, unread: %d }, state: '%s', error: undefined, hasMore: false }"
STORE = """() => {
  const element = document.querySelector("tidings-inbox");
  const nothing = async () => {};
  element.inbox = {
    subscribe: () => () => {}, getSnapshot: () => (%s), preferences: async () => [
      { category: "order_shipped", label: "News", required: false, methods: { in_app: true, web_push: false } },
      { category: "security", label: "Security", required: true, methods: { in_app: true } },
    ],
    loadMore: nothing, markAllSeen: nothing, markRead: nothing, markUnread: nothing, markAllRead: nothing,
    archive: nothing, unarchive: nothing, setPreference: nothing,
  };
}"""
STATES = {
    "items": SNAPSHOT % (f"[{ITEM}, {{ ...{ITEM}, id: '2', read_at: 1, url: null }}]", 2, 1, "ready"),
    "empty": SNAPSHOT % ("[]", 0, 0, "ready"),
    "loading": SNAPSHOT % ("[]", 0, 0, "loading"),
    "failed": SNAPSHOT % ("[]", 0, 0, "failed"),
    "stale": SNAPSHOT % (f"[{ITEM}]", 120, 120, "failed"),
}


def open_page(browser: Browser, scheme: Literal["light", "dark"], state: str) -> Page:
    page = browser.new_page(color_scheme=scheme, reduced_motion="reduce", viewport={"width": 800, "height": 700})
    script = (ROOT / "hub/tidings_hub/web/static/vendor/tidings-inbox.js").read_text()
    page.route("http://shop.test/", lambda route: route.fulfill(body=PAGE, content_type="text/html"))
    page.route("**/tidings-inbox.js", lambda route: route.fulfill(body=script, content_type="text/javascript"))
    page.goto("http://shop.test/")
    page.evaluate(STORE % STATES[state])
    page.evaluate(AXE.read_text())
    return page


def violations(page: Page) -> list[Any]:
    """What axe-core finds: rule and elements."""
    script = """() => axe.run().then(({ violations, passes }) => [passes.length, violations.map(({ id, nodes }) =>
        [id, nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`)])])"""
    passes, rules = page.evaluate(script)
    assert passes > 5
    return list(rules)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", STATES)
def test_axe_finds_nothing(browser: Browser, scheme: Literal["light", "dark"], state: str) -> None:
    page = open_page(browser, scheme, state)
    assert violations(page) == []
    page.get_by_role("button").first.click()
    page.get_by_role("dialog").wait_for()
    assert violations(page) == []
    page.close()


def test_axe_finds_nothing_in_the_preferences_and_on_a_phone(browser: Browser) -> None:
    page = open_page(browser, "light", "items")
    page.set_viewport_size({"width": 390, "height": 800})
    page.get_by_role("button").first.click()
    assert violations(page) == []
    page.get_by_role("button", name="Preferences").click()
    page.get_by_role("checkbox").or_(page.get_by_role("switch")).first.wait_for()
    assert violations(page) == []
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_a_menu_and_in_what_an_action_shows(
    browser: Browser, scheme: Literal["light", "dark"]
) -> None:
    page = open_page(browser, scheme, "items")
    page.get_by_role("button").first.click()
    page.get_by_role("listitem").first.hover()
    page.get_by_role("button", name="More actions").first.click()
    page.get_by_role("menuitem", name="Turn off").wait_for()
    assert violations(page) == []
    page.get_by_role("menuitem", name="Archive").click()
    page.get_by_role("button", name="Undo").wait_for()
    assert violations(page) == []
    page.close()


def test_the_check_sees_into_the_element(browser: Browser) -> None:
    page = open_page(browser, "light", "items")
    page.evaluate("() => document.querySelector('tidings-inbox').shadowRoot.append(document.createElement('button'))")
    assert [rule for rule, _ in violations(page)] == ["button-name"]
    page.close()
