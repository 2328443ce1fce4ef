"""What a change of the inbox costs `<tidings-inbox>` in Chromium: rows created and changed, not time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from support.browsers.inbox_page import inbox_page, open_panel, show

ROWS_AT_FIRST = 40
THOUSAND = (
    "set({ items: Array.from({ length: 1000 }, (_, n) => item(`${n}`, {})), counts: { unseen: 0, unread: 1000 } })"
)
# How many rows were added, removed, and changed inside, by a change of the store.
WORK = """() => {
  const observer = new MutationObserver(() => {});
  observer.observe(list(), { subtree: true, childList: true, attributes: true, characterData: true });
  %s;
  const records = observer.takeRecords();
  const ofList = records.filter(({ target }) => target === list());
  const rowOf = ({ target }) => (target.closest ? target : target.parentElement).closest("li");
  return [
    ofList.reduce((sum, { addedNodes }) => sum + addedNodes.length, 0),
    ofList.reduce((sum, { removedNodes }) => sum + removedNodes.length, 0),
    new Set(records.filter(({ target }) => target !== list()).map(rowOf)).size,
  ];
}"""


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with inbox_page(browser) as page:
        yield page


def work(page: Page, change: str) -> list[int]:
    """Rows added, removed and changed by a change of the store."""
    return list(page.evaluate(WORK % change))


def scroll_to(page: Page, rows: int) -> None:
    page.wait_for_function(
        "(count) => { list().lastElementChild.scrollIntoView(); return rows().length >= count; }",
        arg=rows,
        timeout=30_000,
    )


def test_thousand_notifications_begin_with_few_rows_and_all_can_be_scrolled_to(page: Page) -> None:
    page.evaluate(THOUSAND)
    open_panel(page)
    assert page.evaluate("rows().length") == ROWS_AT_FIRST
    scroll_to(page, 1000)
    assert page.evaluate("rows().map((row) => row.dataset.id).join()") == ",".join(map(str, range(1000)))
    # The panel that is opened again, and another tab, begin with few again.
    page.keyboard.press("Escape")
    open_panel(page)
    assert page.evaluate("rows().length") == ROWS_AT_FIRST
    page.get_by_role("tab", name="Unread").click()
    assert page.evaluate("rows().length") == ROWS_AT_FIRST


def test_an_event_changes_only_its_row(page: Page) -> None:
    page.evaluate(THOUSAND)
    open_panel(page)
    scroll_to(page, 1000)
    assert work(page, "set({ items: [item('new', {}), ...inbox.snapshot.items] })") == [1, 0, 0]
    read = "inbox.snapshot.items.map((it, n) => (n === 500 ? { ...it, seen_at: 1, read_at: 1 } : it))"
    assert work(page, f"set({{ items: {read} }})") == [0, 0, 1]
    assert work(page, "set({ items: inbox.snapshot.items.filter((_, n) => n !== 3) })") == [0, 1, 0]
    # Other objects with the same state, as after a load and when all are marked as seen.
    seen = "inbox.snapshot.items.map((it) => ({ ...it, seen_at: 7 }))"
    assert work(page, f"set({{ items: {seen} }})") == [0, 0, 0]
    digest = "inbox.snapshot.items.map((it, n) => (n === 9 ? { ...it, count: 2 } : it))"
    assert work(page, f"set({{ items: {digest} }})") == [1, 1, 0]
    # Back at the start, the rows far below are removed with the next event.
    page.evaluate(
        """() => new Promise((resolve) => {
          list().parentElement.addEventListener("scroll", resolve, { once: true });
          list().parentElement.scrollTop = 0;
        })"""
    )
    rows = int(page.evaluate("rows().length"))
    newest = "set({ items: [item('newest', {}), ...inbox.snapshot.items] })"
    assert work(page, newest) == [1, rows - ROWS_AT_FIRST, 0]
    assert work(page, newest.replace("newest", "latest")) == [1, 0, 0]


def test_marking_all_as_read_keeps_the_rows(page: Page) -> None:
    page.evaluate(THOUSAND)
    open_panel(page)
    all_read = "inbox.snapshot.items.map((it) => ({ ...it, read_at: 1 }))"
    assert work(page, f"set({{ items: {all_read} }})") == [0, 0, ROWS_AT_FIRST]
    expect(page.locator("li.unread")).to_have_count(0)


def test_pages_are_loaded_until_the_panel_is_full(page: Page) -> None:
    # Each page has two notifications, and none of the first three is unread.
    page.evaluate(
        """(() => {
          inbox.loadMore = async () => {
            calls.push(["loadMore"]);
            const items = inbox.snapshot.items;
            const next = [0, 1].map((n) => item(`${items.length + n}`, { read_at: items.length < 6 ? 1 : null }));
            set({ items: [...items, ...next], hasMore: items.length < 20 });
          };
          set({ items: [item("0", { read_at: 1 }), item("1", { read_at: 1 })], hasMore: true });
        })()"""
    )
    open_panel(page)
    page.get_by_role("tab", name="Unread").click()
    page.wait_for_function("() => rows().length > 5")
    assert page.evaluate("rows()[0].dataset.id") == "6"


def test_times_stay_right_while_the_page_is_seen(browser: Browser) -> None:
    with inbox_page(browser, has_clock=True) as page:
        show(page, {"id": "a"}, {"id": "b"})
        open_panel(page)
        times = page.locator("li time")
        expect(times).to_have_text(["now", "now"])
        page.clock.run_for(130_000)
        expect(times).to_have_text(["2 min. ago", "2 min. ago"])
        hide = """(state) => {
          Object.defineProperty(document, "visibilityState", { configurable: true, get: () => state });
          document.dispatchEvent(new Event("visibilitychange"));
        }"""
        page.evaluate(hide, "hidden")
        page.clock.run_for(600_000)
        expect(times).to_have_text(["2 min. ago", "2 min. ago"])
        page.evaluate(hide, "visible")
        expect(times).to_have_text(["12 min. ago", "12 min. ago"])
        page.keyboard.press("Escape")
        page.clock.run_for(600_000)
        expect(times).to_have_text(["12 min. ago", "12 min. ago"])
        open_panel(page)
        expect(times).to_have_text(["22 min. ago", "22 min. ago"])


def test_tabs_show_parts_of_the_inbox_and_close_them(page: Page) -> None:
    show(page, {"id": "a"})
    open_panel(page)
    expect(page.get_by_role("tab")).to_have_text(["All", "Unread 1"])
    page.evaluate(
        """(() => {
          inbox.part = (options) => {
            const part = createStore(`${Object.keys(options)}.`);
            part.set({ state: "loading" });
            parts.push(part);
            return part;
          };
          set({});
        })()"""
    )
    page.get_by_role("tab", name="Unread").click()
    # Those that are loaded, until the part is.
    expect(page.get_by_role("listitem")).to_have_count(1)
    page.evaluate("parts[0].set({ state: 'ready', items: [item('x', {}), item('y', {})] })")
    expect(page.get_by_role("listitem")).to_have_count(2)
    page.get_by_role("tab", name="Archived").click()
    page.evaluate("parts[1].set({ state: 'failed' })")
    page.get_by_role("button", name="Try again").click()
    page.evaluate("parts[1].set({ state: 'ready' })")
    expect(page.get_by_text("Nothing is archived")).to_be_visible()
    page.evaluate("parts[1].set({ items: [item('z', { archived_at: 1 })] })")
    page.get_by_role("listitem").hover()
    page.get_by_role("button", name="Move to inbox").click()
    expect(page.get_by_text("Moved to inbox")).to_be_visible()
    page.keyboard.press("Escape")
    calls = [["archived.loadMore"], ["archived.unarchive", ["z"]], ["unread.close"], ["archived.close"]]
    assert page.evaluate("calls") == calls


def test_time_has_the_direction_of_its_own_text(page: Page) -> None:
    """Otherwise a page from right to left shows the number last."""
    page.evaluate("document.dir = 'rtl'")
    show(page, {"id": "a"})
    open_panel(page)
    assert page.evaluate("getComputedStyle(rows()[0].querySelector('time')).direction") == "ltr"
