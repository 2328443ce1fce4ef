"""`<tidings-inbox>` in Chromium, with a store of the page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from support.browsers.inbox_page import URL, inbox_page, open_panel, show


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with inbox_page(browser) as page:
        yield page


def test_badge_counts_and_opening_marks_as_seen(page: Page) -> None:
    show(page, {"id": "a"}, unseen=120)
    badge = page.locator(".badge")
    expect(badge).to_have_text("99+")
    open_panel(page)
    expect(badge).to_be_hidden()
    assert page.evaluate("calls") == [["markAllSeen"]]


def test_data_is_text_and_only_web_addresses_are_links(page: Page) -> None:
    show(
        page,
        {"id": "a", "title": "<img src=x onerror=calls.push(1)>", "url": "javascript:calls.push(2)"},
        {"id": "b", "url": "/orders/42"},
    )
    open_panel(page)
    expect(page.locator("li img")).to_have_count(0)
    expect(page.get_by_text("<img src=x")).to_be_visible()
    assert page.locator("li a").evaluate_all("links => links.map((link) => link.href)") == [f"{URL}orders/42"]
    page.get_by_text("<img src=x").click()
    assert page.evaluate("calls") == [["markRead", ["a"]]]


def test_icon_that_cannot_be_loaded_is_the_bell(page: Page) -> None:
    show(page, {"id": "a", "icon": "/missing.png"})
    open_panel(page)
    expect(page.locator("li .avatar svg")).to_be_visible()
    expect(page.locator("li img")).to_have_count(0)


def test_background_of_a_tabs_number_is_no_higher_than_its_line(page: Page) -> None:
    page.set_viewport_size({"width": 375, "height": 667})
    show(page, {"id": "a"})
    open_panel(page)
    around_px = page.locator(".tab-count").evaluate(
        "(count) => count.getBoundingClientRect().height - parseFloat(getComputedStyle(count).lineHeight)"
    )
    # Its padding: otherwise the number is not in the middle.
    assert around_px <= 2.5


def test_keyboard_moves_through_the_list_and_focus_returns_to_the_bell(page: Page) -> None:
    show(page, {"id": "a"}, {"id": "b"})
    open_panel(page)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    # A change elsewhere keeps the focus, also if it replaces the row.
    show(page, {"id": "a"}, {"id": "b", "read_at": 1})
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    assert page.evaluate("calls") == [["markRead", ["a"]]]
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("button", name="Notifications,")).to_be_focused()


def test_actions_of_a_row_and_of_the_list(page: Page) -> None:
    show(page, {"id": "a"}, {"id": "b", "read_at": 1})
    open_panel(page)
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
    open_panel(page)
    expect(page.get_by_text("You're all caught up")).to_be_visible()
    page.evaluate('set({ state: "failed" })')
    page.get_by_role("button", name="Try again").click()
    assert page.evaluate("calls") == [["loadMore"]]


def test_code_that_cannot_be_loaded_is_loaded_by_try_again(page: Page) -> None:
    page.evaluate(
        """(() => {
          let attempts = 0;
          element.hub = { close: () => {}, inbox: async () => {
            attempts += 1;
            if (attempts < 3) throw new Error("offline");
            return inbox;
          } };
        })()"""
    )
    show(page, {"id": "a"})
    open_panel(page)
    again = page.get_by_role("button", name="Try again")
    again.click()
    # It fails once more.
    page.wait_for_function("() => element.snapshot.state === 'failed'")
    again.click()
    expect(page.get_by_role("button", name="title a")).to_be_visible()


def test_refused_preference_is_switched_back(page: Page) -> None:
    open_panel(page)
    page.get_by_role("button", name="Preferences").click()
    switch = page.get_by_role("group", name="News").get_by_role("switch", name="In app")
    switch.click()
    expect(page.get_by_text("That did not work")).to_be_visible()
    expect(switch).to_be_checked()
    page.get_by_role("button", name="Back").click()
    expect(page.get_by_role("tab", name="All")).to_be_visible()


def test_rows_and_preferences_have_the_labels_of_categories(page: Page) -> None:
    show(page, {"id": "a"}, {"id": "b", "category": "new_price"}, {"id": "c", "category": "of_an_older_file"})
    open_panel(page)
    categories = page.locator("[part=category]")
    expect(categories).to_have_text(["Shipping", "New price", "Of an older file"])
    show(page, {"id": "a"}, {"id": "d"})
    expect(categories).to_have_text(["Shipping", "Shipping"])
    page.get_by_role("button", name="Preferences").click()
    expect(page.locator("legend")).to_have_text(["News", "Shipping", "New priceAlways on"])


def test_other_methods_are_disabled_while_a_category_is_off(page: Page) -> None:
    open_panel(page)
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
    show(page, {"id": "a"})
    open_panel(page)
    panel = page.get_by_role("dialog")
    short = panel.bounding_box()
    show(page, *({"id": str(number)} for number in range(30)))
    expect(page.get_by_role("tab", name="Unread 30", exact=True)).to_be_visible()
    long = panel.bounding_box()
    assert short is not None
    assert long is not None
    assert (round(short["height"]), round(long["height"])) == (340, 580)


def test_preferences_of_the_last_user_are_not_shown_to_the_next(page: Page) -> None:
    open_panel(page)
    page.get_by_role("button", name="Preferences").click()
    expect(page.get_by_role("switch", name="In app").first).to_be_visible()
    # As the inbox of a hub that closes and connects again.
    page.evaluate('set({ state: "loading", items: [] })')
    page.evaluate('set({ state: "ready" })')
    expect(page.get_by_role("switch", name="In app")).to_have_count(0)
    expect(page.get_by_role("tab", name="All")).to_be_visible()
