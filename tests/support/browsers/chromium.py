"""The installed Chromium, and a page in it that listens with the SDK and records its events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

import tidings_hub.web
from support.installed_programs import program
from support.waiting import wait_until

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A page that a test fulfills has no address, so Chromium would not let it connect to the loopback interface.
    "--disable-features=LocalNetworkAccessChecks",
)
SDK = Path(tidings_hub.web.__file__).parent / "static" / "vendor" / "tidings.js"
# The longest delay between two attempts to connect is 20 s. The first attempt after it has to succeed.
BACK_S = 60.0
# `events` has the states of the hub and the events of the channel, `numbers` the numbers of the publications.
_PAGE = """<!doctype html><title>listens</title>
<script src="/tidings.js"></script>
<script>
  const numbers = [], events = [];
  addEventListener("online", () => events.push("online"));
  const hub = tidings.connect("/", {...%(options)s, getToken: () => %(token)s});
  addEventListener("online", () => events.push("online was handled"));
  hub.on("state", (state) => events.push(state));
  hub.on("error", (error) => events.push(error.code));
  const channel = hub.channel(%(channel)s);
  channel.on("*", (data) => numbers.push(data.n));
  channel.on("tidings:state", (state) => events.push(state));
  channel.on("tidings:recovered", () => events.push("recovered"));
  channel.on("tidings:gap", () => events.push("gap"));
</script>"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser."""
    if not SDK.exists():
        pytest.fail("the SDK is not built: run make setup (npm ci && npm run build in sdk_js)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium"), headless=True, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class ListeningPage:
    """A page of the hub's origin (`url`) that subscribes to one channel."""

    def __init__(
        self, context: BrowserContext, url: str, channel: str, token: str, *, script: str = "", **options: object
    ) -> None:
        self.page: Page = context.new_page()
        self.page_errors: list[str] = []
        self.page.on("pageerror", lambda error: self.page_errors.append(str(error)))
        values = {"options": options, "token": token, "channel": channel}
        text = _PAGE % {name: json.dumps(value) for name, value in values.items()}
        body = text.replace("<script>", f"<script>{script}", 1)
        self.page.route("**/listens", lambda route: route.fulfill(body=body, content_type="text/html"))
        self.page.goto(f"{url}/listens")

    @property
    def numbers(self) -> list[int]:
        """The numbers of the publications so far."""
        return list(self._evaluate("() => numbers"))

    @property
    def events(self) -> list[str]:
        """The states and events so far."""
        return list(self._evaluate("() => events"))

    def wait_event(self, event: str, times: int = 1) -> ListeningPage:
        """Wait until this event has occurred `times` times."""
        wait_until(lambda: self.events.count(event) >= times, within_s=BACK_S, why=f"{event} {times} times")
        return self

    def wait_numbers(self, count: int) -> ListeningPage:
        """Wait until `count` publications have arrived."""
        wait_until(lambda: len(self.numbers) >= count, within_s=BACK_S, why=f"{count} publications")
        return self

    def _evaluate(self, script: str) -> Any:
        assert self.page_errors == []
        return self.page.evaluate(script)
