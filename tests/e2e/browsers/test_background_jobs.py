"""The example of background jobs in a real Chromium, with a real hub: progress, result, cancel, reload, restarts."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from support.ports import free_port
from support.processes.hub import ROOT, SECRET, HubProcess, environment
from support.processes.redis import RedisProcess
from support.waiting import wait_until

WAIT_MS = 45_000
RESULT = "12 months, all sold out"


class Site:
    """A hub, and the example, each of which a test may kill and start again."""

    def __init__(self, redis: RedisProcess, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        origins = f'origins = ["{self.url}"]\n'
        self.hub = HubProcess(folder, "--broker", redis.url, extra=origins).start()
        self._log = folder / "example.log"
        self._environment = environment() | {
            "TIDINGS_URL": redis.url,
            "TIDINGS_SECRET": SECRET,
            "TIDINGS_HUB": self.hub.url,
        }
        self.start()

    def start(self) -> None:
        """Start the example, and wait until it answers."""
        program = str(ROOT / "examples" / "report.py")
        command = [sys.executable, "-W", "ignore", "-m", "flask", "--app", program, "run", "--port", str(self.port)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment)
        wait_until(self._answers, why=lambda: f"the example answers: {self._log.read_text()}")

    def kill(self) -> None:
        """SIGKILL for the example."""
        self._process.kill()
        self._process.wait(timeout=20)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
def site(redis: RedisProcess, tmp_path: Path) -> Iterator[Site]:
    site = Site(redis, tmp_path)
    yield site
    site.kill()
    site.hub.stop()


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    context = browser.new_context()
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(site.url)
    yield page
    context.close()
    assert errors == []


def expect_state(page: Page, text: str) -> None:
    expect(page.get_by_role("status")).to_have_text(re.compile(text), timeout=WAIT_MS)


def begin(page: Page) -> None:
    page.get_by_role("button", name="Begin").click()
    expect_state(page, "^running month [1-9]")


def test_page_shows_the_progress_by_events_and_then_the_result(page: Page, site: Site) -> None:
    requests: list[str] = []
    expect_state(page, "nothing yet")
    page.wait_for_function("() => hub.state === 'connected'")
    page.on("request", lambda request: requests.append(f"{request.method} {request.url.removeprefix(site.url)}"))
    begin(page)
    expect_state(page, "month [6-9]$")
    assert float(page.locator("progress").get_attribute("value") or 0) > 0.4
    # One or two at the start. The progress since came as events.
    assert len([request for request in requests if request.startswith("GET /tidings/jobs/")]) <= 3
    expect_state(page, f"^{RESULT}$")
    assert len([request for request in requests if request.startswith("GET /tidings/jobs/")]) <= 5
    expect(page.get_by_role("button", name="Cancel")).to_be_disabled()


def test_job_is_cancelled_in_the_page(page: Page) -> None:
    begin(page)
    page.get_by_role("button", name="Cancel").click()
    expect_state(page, "^cancelled")


def test_reloaded_page_and_lost_hub_miss_nothing(page: Page, site: Site) -> None:
    begin(page)
    page.reload()
    expect_state(page, "^running month [1-9]")
    # From here the page polls.
    site.hub.kill()
    expect_state(page, f"^{RESULT}$")


def test_result_is_for_its_own_user_and_survives_a_restart(page: Page, site: Site, browser: Browser) -> None:
    begin(page)
    location = page.evaluate("() => sessionStorage.getItem('job')")
    other = browser.new_context()
    stranger = other.new_page()
    stranger.goto(site.url)
    assert stranger.evaluate(f"async () => (await fetch('{location}')).status") == 404
    other.close()
    expect_state(page, f"^{RESULT}$")
    site.kill()
    site.start()
    page.reload()
    expect_state(page, f"^{RESULT}$")
