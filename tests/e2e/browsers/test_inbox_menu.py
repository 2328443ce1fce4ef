"""The menu of a notification in `<tidings-inbox>`: by keyboard, and what it does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from support.browsers.inbox_page import inbox_page, open_panel, show


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with inbox_page(browser) as page:
        show(page, {"id": "a"}, {"id": "b", "read_at": 1}, {"id": "c", "category": "new_price"})
        open_panel(page)
        page.evaluate("calls.length = 0")
        yield page


def item(page: Page, name: str) -> Locator:
    return page.get_by_role("menuitem", name=name)


def open_menu(page: Page, number: int) -> Locator:
    row = page.get_by_role("listitem").nth(number)
    row.hover()
    button = row.get_by_role("button", name="More actions")
    button.click()
    return button


def test_keyboard_opens_moves_and_closes(page: Page) -> None:
    button = page.get_by_role("listitem").first.get_by_role("button", name="More actions")
    button.focus()
    page.keyboard.press("Enter")
    expect(button).to_have_attribute("aria-expanded", "true")
    expect(item(page, "Mark as read")).to_be_focused()
    expect(item(page, "Turn off “Shipping”")).to_be_visible()
    page.keyboard.press("ArrowUp")
    expect(item(page, "Turn off “Shipping”")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(item(page, "Mark as read")).to_be_focused()
    page.keyboard.press("a")
    expect(item(page, "Archive")).to_be_focused()
    page.keyboard.press("End")
    page.keyboard.press("Home")
    page.keyboard.press("Escape")
    # The panel stays open.
    expect(page.get_by_role("menu")).to_be_hidden()
    expect(button).to_be_focused()
    expect(button).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("menu")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert page.evaluate("calls") == []


def test_marks_and_archives_with_undo_and_the_focus_goes_on(page: Page) -> None:
    open_menu(page, 1)
    item(page, "Mark as unread").click()
    open_menu(page, 1)
    item(page, "Archive").click()
    page.get_by_role("button", name="Undo").wait_for()
    page.evaluate("set({ items: inbox.snapshot.items.filter(({ id }) => id !== 'b') })")
    expect(page.get_by_role("listitem")).to_have_count(2)
    expect(page.get_by_role("button", name="title c")).to_be_focused()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("button", name="Undo")).to_be_hidden()
    assert page.evaluate("calls") == [["markUnread", ["b"]], ["archive", ["b"]], ["unarchive", ["b"]]]


def test_turns_a_category_off_and_on_again(page: Page) -> None:
    open_menu(page, 0)
    item(page, "Turn off “Shipping”").click()
    expect(page.get_by_text("“Shipping” is off")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("“Shipping” is off")).to_be_hidden()
    off, on = (["setPreference", "order_shipped", "in_app", is_on] for is_on in (False, True))
    assert page.evaluate("calls") == [off, on]
    page.evaluate("Object.assign(preferences[1].methods, { in_app: false })")
    open_menu(page, 0)
    item(page, "Turn on “Shipping”").wait_for()


@pytest.mark.parametrize("change", ["set({ state: 'loading', items: [] })", "element.inbox = createStore('other ')"])
def test_next_user_gets_neither_the_preferences_nor_the_undo_of_the_last_one(page: Page, change: str) -> None:
    open_menu(page, 0)
    item(page, "Turn off “Shipping”").click()
    page.get_by_role("button", name="Undo").wait_for()
    open_menu(page, 1)
    item(page, "Turn off “Shipping”").wait_for()
    page.keyboard.press("Escape")
    # The panel is open all the time.
    page.evaluate(f"Object.assign(preferences[1].methods, {{ in_app: false }}); {change}")
    expect(page.get_by_role("button", name="Undo")).to_be_hidden()
    page.evaluate("element.inbox.set({ state: 'ready', items: [item('d', { read_at: 1 })] })")
    open_menu(page, 0)
    item(page, "Turn on “Shipping”").wait_for()


def test_required_category_cannot_be_turned_off(page: Page) -> None:
    open_menu(page, 0)
    item(page, "Turn off “Shipping”").wait_for()
    page.keyboard.press("Escape")
    open_menu(page, 2)
    expect(page.get_by_role("menuitem")).to_have_text(["Mark as read", "Archive"])


def test_pointer_elsewhere_scrolling_and_a_notification_that_leaves_close_it(page: Page) -> None:
    menu = page.get_by_role("menu")
    button = open_menu(page, 0)
    # A click on another notification only closes the menu.
    row = page.get_by_role("listitem").last.bounding_box()
    assert row is not None
    page.mouse.click(row["x"] + 20, row["y"] + 20)
    expect(menu).to_be_hidden()
    expect(button).to_be_focused()
    assert page.evaluate("calls") == []
    button.click()
    expect(menu).to_be_visible()
    page.evaluate("list().parentElement.dispatchEvent(new Event('scroll'))")
    expect(menu).to_be_hidden()
    button.click()
    expect(menu).to_be_visible()
    show(page, {"id": "b"})
    expect(menu).to_be_hidden()
