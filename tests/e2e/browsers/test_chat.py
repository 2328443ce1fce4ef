"""The example chat, started with its command, and two users in Chromium."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from support.browsers.chromium import BACK_S
from support.ports import free_port
from support.processes.chat import is_ok, running_chat
from support.processes.hub import ROOT, SECRET, HubProcess, environment
from support.processes.redis import RedisProcess
from support.waiting import wait_until

TIMEOUT_MS = BACK_S * 1000
ATTACK = "<img src=x onerror=\"document.title='broken into'\">"
PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module", params=["existing-redis", "own-redis"])
def chat(
    request: pytest.FixtureRequest, shared_redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a running chat, which uses an existing Redis or starts one."""
    is_own = request.param == "own-redis"
    url, end = (None, signal.SIGTERM) if is_own else (shared_redis.url, signal.SIGINT)
    with running_chat(tmp_path_factory.mktemp("chat"), redis_url=url, end=end) as address:
        yield address


def sign_in(context: BrowserContext, url: str, name: str) -> Page:
    page = context.new_page()
    page.goto(url)
    page.fill("#name", name)
    page.click("text=Sign in")
    return page


def send(page: Page, text: str) -> None:
    page.fill("#text", text)
    page.keyboard.press("Enter")
    expect(page.locator("#text")).to_have_value("", timeout=TIMEOUT_MS)


@pytest.mark.timeout(240)
def test_two_users_exchange_messages(chat: str, browser: Browser, tmp_path: Path) -> None:
    contexts = [browser.new_context(), browser.new_context(viewport=PHONE, color_scheme="dark")]
    try:
        page_errors: list[str] = []
        ann, ben = (
            sign_in(context, chat, name) for context, name in zip(contexts, ["Ann", f"Ben {ATTACK}"], strict=True)
        )
        for page in (ann, ben):
            page.on("pageerror", lambda error: page_errors.append(str(error)))
            expect(page.locator("#online li")).to_have_text(["Ann", f"Ben {ATTACK}"[:40]], timeout=TIMEOUT_MS)
        send(ann, "**Hello** `Ben`, see [this](https://example.org)")
        for page in (ann, ben):
            text = page.locator("#messages .text").last
            expect(text.locator("strong")).to_have_text("Hello", timeout=TIMEOUT_MS)
            expect(text.locator("code")).to_have_text("Ben")
            expect(text.locator("a[rel~=noopener]")).to_have_attribute("href", "https://example.org")
        send(ben, f"{ATTACK} <script>document.title = 'broken into'</script> ![x](http://127.0.0.1/x.png)")
        send(ben, f"```\n{'wide ' * 50}\n```\n\n- one\n- {'long' * 50}")
        send(ben, "[click](javascript:alert(1)) <a href='javascript:alert(1)'>and here</a>")
        for page in (ann, ben):
            rows = page.locator("#messages > li")
            expect(page.locator("#messages .text:not(.plain)")).to_have_count(4, timeout=TIMEOUT_MS)
            expect(rows.nth(1).locator(".text")).to_contain_text(ATTACK)
            expect(rows.nth(1).locator("b")).to_have_text(f"Ben {ATTACK}"[:40])
            expect(page.locator("#messages img, #messages script, #online img, #messages a")).to_have_count(1)
            assert page.title() == "Chat"
        for page in (ann, ben):
            assert page.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0
            assert page.evaluate("() => document.querySelector('#messages').scrollWidth - innerWidth") <= 0
        ann.screenshot(path=tmp_path / "desk.png")
        ben.screenshot(path=tmp_path / "phone.png")
        # After a reload all messages are shown. After a sign-out the user is no longer listed.
        ann.reload()
        expect(ann.locator("#messages > li")).to_have_count(4, timeout=TIMEOUT_MS)
        ben.click("text=Sign out")
        expect(ann.locator("#online li")).to_have_text(["Ann"], timeout=TIMEOUT_MS)
        assert page_errors == []
    finally:
        for context in contexts:
            context.close()


@pytest.mark.timeout(120)
def test_mentions_and_replies_are_in_the_bell_of_the_other_user(chat: str, browser: Browser) -> None:
    contexts = [browser.new_context(), browser.new_context()]
    try:
        eve, joe = (sign_in(context, chat, name) for context, name in zip(contexts, ["Eve", "Joe"], strict=True))
        expect(joe.locator("#online li")).to_have_text(["Eve", "Joe"], timeout=TIMEOUT_MS)
        send(eve, "@joe, @Eve and @Joey: lunch?")
        expect(joe.locator("tidings-inbox .badge")).to_have_text("1", timeout=TIMEOUT_MS)
        joe.get_by_role("button", name="Notifications,").click()
        expect(joe.get_by_text("Eve mentioned you")).to_be_visible(timeout=TIMEOUT_MS)
        joe.keyboard.press("Escape")
        joe.locator("#messages > li", has_text="lunch?").get_by_role("button", name="Reply").click()
        send(joe, "At noon")
        eve.get_by_role("button", name="Notifications,").click()
        # The only one: the author of a mention gets no notification of it.
        expect(eve.get_by_role("dialog").get_by_role("listitem")).to_have_count(1, timeout=TIMEOUT_MS)
        expect(eve.get_by_text("Joe replied to you")).to_be_visible()
    finally:
        for context in contexts:
            context.close()


def test_token_and_messages_require_sign_in(chat: str) -> None:
    port = int(chat.rpartition(":")[2])
    for path in ("/token", "/messages"):
        assert not is_ok(port, path)


def test_page_starts_when_its_hub_does(browser: Browser, shared_redis: RedisProcess, tmp_path: Path) -> None:
    port = free_port()
    page_url = f"http://127.0.0.1:{port}"
    config = (ROOT / "examples" / "chat" / "tidings.toml").read_text()
    hub = HubProcess(tmp_path, "--broker", shared_redis.url, config=f'origins = ["{page_url}"]\n{config}')
    hub.port = free_port()
    values = {"CHAT_DATA": str(tmp_path / "chat.sqlite"), "CHAT_HUB": hub.url, "CHAT_SECRET": "c" * 32}
    values |= {"TIDINGS_SECRET": SECRET, "REDIS_URL": shared_redis.url}
    hub.environment["TIDINGS_SECRET"] = SECRET
    command = [sys.executable, "-m", "flask", "--app", "app", "run", "--port", str(port)]
    application = subprocess.Popen(command, cwd=ROOT / "examples" / "chat", env=environment() | values)
    context = browser.new_context()
    try:
        wait_until(lambda: is_ok(port, "/"), within_s=60, why="the application listens")
        page = sign_in(context, page_url, "Ann")
        expect(page.locator("#state")).to_contain_text("hub does not respond", timeout=TIMEOUT_MS)
        hub.start()
        expect(page.locator("#online li")).to_have_text(["Ann"], timeout=TIMEOUT_MS)
    finally:
        context.close()
        application.kill()
        application.wait(timeout=20)
        hub.stop()
