"""The page of the example shop in Chromium: it shows that an order was shipped, and its bell has the notification."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Route, expect

from support.browsers.chromium import BACK_S, chromium
from support.ports import free_port
from support.processes.chat import is_ok
from support.processes.hub import API_KEY, ROOT, SECRET, HubProcess, environment
from support.waiting import wait_until

TIMEOUT_MS = BACK_S * 1000
# The shop's own paths. All others are the hub's, as with nginx in docker-compose.yml.
PATHS = ("/", "/token", "/orders/")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    settings = f'secret = "{SECRET}"\napi_keys = ["{API_KEY}"]\ndrain_s = 0\ndrain_notice_s = 0\n'
    service = f'[notifications]\ndatabase = "sqlite:///notifications.db"\nlisten = "127.0.0.1:{free_port()}"\n'
    config = (ROOT / "examples" / "tidings.toml").read_text() + service
    process = HubProcess(tmp_path_factory.mktemp("hub"), extra=settings, config=config)
    try:
        yield process.start()
    finally:
        process.stop()


@pytest.fixture(scope="module")
def shop(hub: HubProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of the shop's application."""
    port = free_port()
    values = {"TIDINGS_URL": hub.url, "TIDINGS_API_KEY": API_KEY, "TIDINGS_SECRET": SECRET}
    command = [sys.executable, "-m", "flask", "--app", "shop", "run", "--port", str(port)]
    log_path: Path = tmp_path_factory.mktemp("shop") / "log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT / "examples", env=environment() | values, stdout=log, stderr=log)
    try:
        wait_until(lambda: is_ok(port, "/token"), within_s=60, why=lambda: log_path.read_text()[-2000:])
        yield port
    finally:
        process.kill()
        process.wait(timeout=20)


@pytest.fixture
def page(hub: HubProcess, shop: int) -> Iterator[Page]:
    """The page at the address of the hub, which also serves the shop's paths."""

    def serve(route: Route) -> None:
        path = urlsplit(route.request.url).path
        if path in PATHS or path.startswith(PATHS[-1]):
            route.fulfill(response=route.fetch(url=f"http://127.0.0.1:{shop}{path}"))
        else:
            route.continue_()

    with chromium() as browser:
        page = browser.new_page()
        page_errors: list[str] = []
        page.on("pageerror", lambda error: page_errors.append(str(error)))
        page.route(f"{hub.url}/**", serve)
        page.goto(f"{hub.url}/")
        yield page
        assert page_errors == []


@pytest.mark.timeout(180)
def test_shipped_order_is_shown_at_once_and_in_the_bell(page: Page) -> None:
    page.wait_for_function(
        "() => document.querySelector('tidings-inbox').snapshot.state === 'ready'", timeout=TIMEOUT_MS
    )
    page.get_by_role("button", name="Ship it").click()
    expect(page.locator("#status")).to_have_text("shipped by DHL", timeout=TIMEOUT_MS)
    expect(page.locator("tidings-inbox .badge")).to_have_text("1", timeout=TIMEOUT_MS)
    page.get_by_role("button", name="Notifications,").click()
    expect(page.get_by_role("link", name="Order 42 has shipped")).to_be_visible(timeout=TIMEOUT_MS)
    expect(page.locator("tidings-inbox .badge")).to_be_hidden(timeout=TIMEOUT_MS)
    # The label of the shop's settings.
    expect(page.locator("[part=category]")).to_have_text("Shipping", timeout=TIMEOUT_MS)
    # The same order again is the same notification.
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Ship it").click()
    expect(page.frame_locator("iframe").locator("body")).to_contain_text("cursor", timeout=TIMEOUT_MS)
    page.get_by_role("button", name="Notifications,").click()
    expect(page.get_by_role("dialog").get_by_role("listitem")).to_have_count(1)
