"""The page of `tidings serve --dev` in a real Chromium with a real hub."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from support.installed_programs import program
from support.processes.hub import API_KEY, HubProcess, environment

TIMEOUT_MS = 20_000
expect.set_options(timeout=TIMEOUT_MS)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    process = HubProcess(tmp_path, "--dev", config="").start()
    yield process
    process.stop()


@pytest.fixture
def page(browser: Browser, hub: HubProcess) -> Iterator[Page]:
    """The connected page. The test fails on every error that the browser reports."""
    context = browser.new_context()
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    browser_errors: list[str] = []
    page.on("pageerror", lambda error: browser_errors.append(str(error)))
    page.on("console", lambda message: browser_errors.append(message.text) if message.type == "error" else None)
    page.goto(hub.url)
    _connected(page)
    yield page
    context.close()
    # Some tests cause refused requests and lost connections. The page itself shows these errors.
    expected = ("Failed to load resource", "WebSocket connection")
    assert [text for text in browser_errors if not text.startswith(expected)] == []


def _connected(page: Page) -> None:
    expect(page.locator(".state[data-state=connected]")).to_be_visible()
    expect(page.locator("#user")).not_to_have_text("\u2013")


def _transport(page: Page, name: str) -> None:
    expect(page.locator("#transport")).to_have_text(name)


def _rows(page: Page) -> list[str]:
    """The events shown, oldest first."""
    return page.locator("#feed .event").all_text_contents()[::-1]


def _wait_for_event(page: Page, event: str) -> None:
    expect(page.locator("#feed .event", has_text=event).first).to_be_visible()


def _run(command: list[str], **extra: str) -> str:
    result = subprocess.run(command, env=environment() | extra, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_curl_command_publishes_to_the_page(page: Page) -> None:
    page.click("[data-copies=curl]")
    expect(page.locator("[data-copies=curl]")).to_have_text("Copied")
    line = page.evaluate("() => navigator.clipboard.readText()")
    program("curl")

    receipt = json.loads(_run(["bash", "-c", line]))

    row = page.locator(f"#feed li[data-cursor='{receipt['cursor']}']")
    expect(row.locator(".event")).to_have_text("greeting")
    expect(row.locator(".data")).to_have_text('{ "text": "Hello from curl" }')
    expect(row.locator(".id")).to_have_text(receipt["id"])
    expect(row.locator(".latency")).to_contain_text("ms")
    expect(page.locator("#count")).to_have_text("1")
    expect(page.locator("#empty")).to_be_hidden()


def test_the_python_code_publishes_to_the_page(page: Page) -> None:
    lines = page.locator("#python").inner_text()

    _run([sys.executable, "-W", "error", "-c", lines])

    expect(page.locator("#feed .data").first).to_have_text('{ "text": "Hello from Python" }')


def test_the_form_publishes_and_shows_the_round_trip(page: Page) -> None:
    page.fill("#event", "said")
    page.fill("#data", '{"a": [1, 2]}')
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    _wait_for_event(page, "said")
    expect(page.locator("#publish-result")).to_have_text(re.compile(r"Receipt after .* ms, arrived here after .* ms"))
    expect(page.locator("#feed .latency").first).to_contain_text("s")

    page.fill("#data", "{")
    page.click("#publish-form button")
    expect(page.locator("#publish-result.wrong")).to_contain_text("not JSON")
    page.fill("#data", "1")
    page.fill("#event", "disconnect")
    page.click("#publish-form button")
    expect(page.locator("#publish-result.wrong")).to_contain_text("reserved")
    assert _rows(page) == ["said"]


def test_page_and_commands_use_the_api_key(browser: Browser, tmp_path: Path) -> None:
    hub = HubProcess(tmp_path, "--dev").start()
    page = browser.new_page()
    try:
        page.goto(hub.url)
        _connected(page)
        page.click("#publish-form button")
        expect(page.locator("#publish-result.wrong")).to_contain_text("API key")
        page.fill("#key", API_KEY)
        page.click("#publish-form button")
        expect(page.locator("#feed li")).to_have_count(1)
        _run(["bash", "-c", page.locator("#curl").inner_text()], TIDINGS_API_KEY=API_KEY)
        expect(page.locator("#feed li")).to_have_count(2)
        _run([sys.executable, "-c", page.locator("#python").inner_text()], TIDINGS_API_KEY=API_KEY)
        expect(page.locator("#feed li")).to_have_count(3)
    finally:
        page.close()
        hub.stop()


def test_switching_to_long_polling_and_back(page: Page, hub: HubProcess) -> None:
    _transport(page, "websocket")
    page.check("#polling")
    _connected(page)
    _transport(page, "polling")
    expect(page.locator("#recovered")).to_have_text("recovered: true")
    hub.publish("demo:hello", "over_polling", 1)
    _wait_for_event(page, "over_polling")
    page.uncheck("#polling")
    _transport(page, "websocket")
    hub.publish("demo:hello", "over_websocket", 2)
    _wait_for_event(page, "over_websocket")

    assert _rows(page) == ["over_polling", "over_websocket"]


def test_publications_missed_while_disconnected_arrive_once_and_in_order(page: Page, hub: HubProcess) -> None:
    hub.publish("demo:hello", "before", 0)
    _wait_for_event(page, "before")
    page.click("#connect")
    expect(page.locator("#state")).to_have_text("Disconnected by you")
    for number in range(5):
        hub.publish("demo:hello", f"missed-{number}", number)
    page.click("#connect")
    _wait_for_event(page, "missed-4")

    expect(page.locator("#recovered")).to_have_text("recovered: true")
    hub.publish("demo:hello", "after", 6)
    _wait_for_event(page, "after")
    assert _rows(page) == ["before", *(f"missed-{number}" for number in range(5)), "after"]


def test_publications_missed_during_a_reload_arrive(page: Page, hub: HubProcess) -> None:
    hub.publish("demo:hello", "before", 0)
    _wait_for_event(page, "before")
    page.goto("about:blank")
    hub.publish("demo:hello", "missed", 1)
    page.goto(hub.url)
    _wait_for_event(page, "missed")

    expect(page.locator("#recovered")).to_have_text("recovered: true")
    assert _rows(page) == ["missed"]


def test_restart_of_a_hub_without_stored_history_shows_a_gap(page: Page, hub: HubProcess) -> None:
    hub.publish("demo:hello", "before", 0)
    _wait_for_event(page, "before")
    hub.stop()
    expect(page.locator(".state[data-state=waiting]")).to_be_visible()
    hub.start()
    _connected(page)

    expect(page.locator("#recovered")).to_have_text("recovered: false")
    expect(page.locator("#feed .note.lost")).to_contain_text("reload")
    hub.publish("demo:hello", "again", 1)
    _wait_for_event(page, "again")


def test_switching_to_another_channel(page: Page, hub: HubProcess) -> None:
    page.fill("#channel", "orders:42")
    page.keyboard.press("Enter")
    expect(page.locator("#stream-title")).to_contain_text("orders:42")
    expect(page.locator("#curl")).to_contain_text("orders:42")
    expect(page.locator("#feed .note")).to_have_text("Subscribed to orders:42")
    hub.publish("demo:hello", "elsewhere", 1)
    hub.publish("orders:42", "here", 2)
    _wait_for_event(page, "here")

    assert _rows(page) == ["here"]


def test_received_names_and_markup_are_shown_as_text(page: Page, hub: HubProcess) -> None:
    data = {"__proto__": {"polluted": True}, "constructor": 1, "html": "<img src=x onerror=alert(1)>"}
    events = ["__proto__", "constructor", "toString", "<b>bold</b>", "\u202eevil"]
    for event in events:
        hub.publish("demo:hello", event, data)
    expect(page.locator("#count")).to_have_text(str(len(events)))
    expect(page.locator("#feed .event")).to_have_count(len(events))

    assert _rows(page) == events
    assert json.loads(page.locator("#feed .data").first.inner_text()) == data
    assert page.locator("#feed img, #feed b b, #feed .event b").count() == 0
    assert page.evaluate("() => ({}).polluted") is None


def test_number_of_rows_is_bounded(page: Page, hub: HubProcess) -> None:
    for _ in range(5):
        items = [{"channel": "demo:hello", "event": "tick", "data": number} for number in range(100)]
        status, answer, _ = hub.request("POST", "/api/publish", items)
        assert status == 200
        assert all("cursor" in result for result in answer["results"])
    expect(page.locator("#count")).to_have_text("500")

    assert page.locator("#feed li").count() == 200
    page.click("#clear")
    expect(page.locator("#feed li")).to_have_count(0)
    expect(page.locator("#count")).to_have_text("0")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (360, 740)], ids=["desk", "phone"])
def test_page_fits_the_window_and_has_enough_contrast(
    browser: Browser, hub: HubProcess, tmp_path: Path, scheme: str, width: int, height: int
) -> None:
    context = browser.new_context(
        color_scheme="dark" if scheme == "dark" else "light", viewport={"width": width, "height": height}
    )
    page = context.new_page()
    page.goto(hub.url)
    _connected(page)
    hub.publish("demo:hello", "a_long_event_name_" * 6, {"text": "x" * 400})
    expect(page.locator("#feed li")).to_have_count(1)

    assert page.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0
    assert _contrast(page, "body") >= 7
    assert _contrast(page, "button.primary") >= 4.5
    assert _contrast(page, ".event") >= 4.5
    page.screenshot(path=tmp_path / f"{scheme}-{width}.png", full_page=True)
    context.close()


def _contrast(page: Page, selector: str) -> float:
    """Return the contrast ratio of text to its background (WCAG 2.2, relative luminance)."""
    colours = page.evaluate(
        """selector => {
            const style = getComputedStyle(document.querySelector(selector));
            return [style.color, style.backgroundColor].map(text => text.match(/[0-9.]+/g).slice(0, 3).map(Number));
        }""",
        selector,
    )
    lighter, darker = sorted((_luminance(colour) for colour in colours), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: list[float]) -> float:
    linear = [part / 255 / 12.92 if part / 255 <= 0.04045 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
