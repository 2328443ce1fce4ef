"""The example chat with a contact for push services, in Chromium: its button for Web Push, and signing out."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, BrowserContext, Page, expect

from support.browsers.chromium import BACK_S
from support.browsers.push_stand_in import new_subscription, push_stand_in
from support.processes.chat import running_chat
from support.processes.redis import RedisProcess

TIMEOUT_MS = BACK_S * 1000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chat")


@pytest.fixture(scope="module")
def chat(folder: Path, shared_redis: RedisProcess) -> Iterator[str]:
    contact = ("--contact", "mailto:ops@shop.example")
    with running_chat(folder, *contact, redis_url=shared_redis.url, end=signal.SIGTERM) as url:
        yield url


@pytest.fixture
def context(browser: Browser, chat: str, request: pytest.FixtureRequest) -> Iterator[BrowserContext]:
    context = browser.new_context()
    context.grant_permissions(["notifications"], origin=chat)
    context.add_init_script(push_stand_in(new_subscription(request.node.name)))
    yield context
    context.close()


def sign_in(page: Page, url: str, name: str) -> None:
    page.goto(url)
    page.fill("#name", name)
    page.click("text=Sign in")


def subscribed_users(folder: Path) -> list[str]:
    engine = sa.create_engine(f"sqlite:///{folder / 'notifications.sqlite'}")
    try:
        with engine.connect() as connection:
            return list(connection.scalars(sa.text("SELECT user_id FROM tidings_push_subscription")))
    finally:
        engine.dispose()


@pytest.mark.timeout(180)
def test_button_subscribes_and_signing_out_unsubscribes(chat: str, folder: Path, context: BrowserContext) -> None:
    page = context.new_page()
    page_errors: list[str] = []
    page.on("pageerror", lambda error: page_errors.append(str(error)))
    sign_in(page, chat, "Ann")
    button = page.get_by_role("button", name="Notify me")
    button.click(timeout=TIMEOUT_MS)
    expect(button).to_be_hidden(timeout=TIMEOUT_MS)
    assert len(subscribed_users(folder)) == 1
    # A reload knows it.
    page.reload()
    page.wait_for_function("() => hub.state === 'connected'", timeout=TIMEOUT_MS)
    expect(button).to_be_hidden()
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("#name")).to_be_visible(timeout=TIMEOUT_MS)
    assert subscribed_users(folder) == []
    assert page.evaluate("() => localStorage.getItem('subscription')") is None
    # The next user of this browser has the button again.
    sign_in(page, chat, "Ben")
    expect(button).to_be_visible(timeout=TIMEOUT_MS)
    assert page_errors == []


@pytest.mark.timeout(180)
def test_signing_out_does_not_wait_for_a_hub_that_gives_no_answer(chat: str, context: BrowserContext) -> None:
    page = context.new_page()
    sign_in(page, chat, "Eve")
    page.get_by_role("button", name="Notify me").click(timeout=TIMEOUT_MS)
    expect(page.get_by_role("button", name="Notify me")).to_be_hidden(timeout=TIMEOUT_MS)
    context.set_offline(offline=True)
    # A request to the hub would take 30 s.
    with page.expect_event("requestfailed", lambda request: request.url.endswith("/sign-out"), timeout=25_000):
        page.get_by_role("button", name="Sign out").click(no_wait_after=True)
    context.set_offline(offline=False)
    page.goto(chat)
    assert page.evaluate("() => localStorage.getItem('subscription')") is None
