"""The attributes of `<tidings-inbox>` name its user: another value is another user, in a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from support.notification_node import NotificationNode
from support.processes.hub import HubProcess, token
from support.programs.web_page import serve_pages
from support.waiting import wait_until

PAGE = """<!doctype html><title>page</title><script src="%(hub)s/tidings-inbox.js"></script>
<tidings-inbox id="element" url="%(hub)s" token-url="/token"></tidings-inbox>"""
PLAIN = """<!doctype html><title>page</title><script src="/tidings-inbox.js"></script><tidings-inbox id="element">"""
READY = "() => element.snapshot.state === 'ready'"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotificationNode]:
    process = NotificationNode(tmp_path_factory.mktemp("node"), options="user_requests_per_minute = 60000")
    try:
        process.start()
        for user in ("ann", "ben"):
            process.store(user, "first", title=f"For {user}")
        yield process
    finally:
        process.stop()


@pytest.fixture
def page(browser: Browser, node: NotificationNode) -> Iterator[Page]:
    """A page of the hub's origin with the inbox of ann. `/token/USER` returns a token."""
    context = browser.new_context()
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.route("**/page", lambda route: route.fulfill(body=PLAIN, content_type="text/html"))
    page.route("**/token/*", lambda route: route.fulfill(body=token(route.request.url.rpartition("/")[2])))
    page.goto(f"{node.hub.url}/page")
    yield page
    context.close()
    assert errors == []


def _set(page: Page, name: str, value: str | None) -> Any:
    """Set or remove an attribute; return what the element shows at once."""
    script = """([name, value]) => {
      value === null ? element.removeAttribute(name) : element.setAttribute(name, value);
      return element.snapshot.items.map(({ title }) => title);
    }"""
    return page.evaluate(script, [name, value])


def _wait_for(page: Page, user: str) -> None:
    page.wait_for_function("(title) => element.snapshot.items[0]?.title === title", arg=f"For {user}")


def _value(name: str, user: str) -> str:
    return token(user) if name == "token" else f"/token/{user}"


@pytest.mark.parametrize("name", ["token", "token-url"])
def test_another_value_is_another_user(page: Page, node: NotificationNode, name: str) -> None:
    _set(page, name, _value(name, "ann"))
    _set(page, "url", "/")
    _wait_for(page, "ann")
    # Nothing of ann is left, not even until ben's inbox is there.
    assert _set(page, name, _value(name, "ben")) == []
    _wait_for(page, "ben")
    assert _set(page, name, None) == []
    page.wait_for_function("() => element.snapshot.state === 'failed'")
    assert _set(page, name, _value(name, "ann")) == []
    _wait_for(page, "ann")
    wait_until(lambda: _users(node.hub) == ["ann"], why="the connections of the others are closed")
    assert _set(page, "url", None) == []
    wait_until(lambda: _users(node.hub) == [], why="without an address there is no connection")


def test_backend_without_a_signed_in_user_ends_the_inbox(page: Page, node: NotificationNode) -> None:
    _set(page, "token-url", "/token/ann")
    _set(page, "url", "/")
    _wait_for(page, "ann")
    page.unroute("**/token/*")
    page.route("**/token/*", lambda route: route.fulfill(status=401))
    assert node.hub.request("POST", "/api/users/ann/disconnect")[0] == 200
    page.wait_for_function("() => element.snapshot.state === 'failed'")
    assert page.evaluate("() => element.snapshot.items") == []


def test_new_token_of_the_same_user_keeps_the_connection(page: Page) -> None:
    _set(page, "token", token("ann"))
    _set(page, "url", "/")
    page.wait_for_function(READY)
    page.evaluate("() => (element.inbox.isTheFirst = true)")
    assert _set(page, "token", token("ann", jti="another")) == ["For ann"]
    page.evaluate("() => new Promise((resolve) => setTimeout(resolve))")
    assert page.evaluate("() => element.inbox.isTheFirst") is True


def test_inbox_of_the_page_does_not_depend_on_attributes(page: Page) -> None:
    page.evaluate("""() => {
      const snapshot = { items: [{ id: "1", title: "Mine" }], counts: { unseen: 0, unread: 0 }, state: "ready" };
      element.inbox = { subscribe: () => () => {}, getSnapshot: () => snapshot };
    }""")
    assert _set(page, "token", token("ben")) == ["Mine"]


def test_token_comes_from_the_backend_although_the_cache_has_one(browser: Browser, tmp_path: Path) -> None:
    users = ["ann"]
    files = {"/token": lambda: token(users[-1])}
    with serve_pages(files, {"Cache-Control": "max-age=600"}) as origin:
        hub = HubProcess(tmp_path, extra=f'origins = ["{origin}"]\n').start()
        files["/"] = lambda: PAGE % {"hub": hub.url}
        # A context without routes, which would disable its cache.
        context = browser.new_context()
        try:
            page = context.new_page()
            page.goto(f"{origin}/")
            wait_until(lambda: _users(hub) == ["ann"], why="ann is connected")
            users.append("ben")
            page.evaluate("() => element.parentNode.append(element)")
            wait_until(lambda: _users(hub) == ["ben"], why="ben is connected")
        finally:
            context.close()
            hub.stop()


def _users(hub: HubProcess) -> list[str]:
    return [connection["user"] for connection in hub.get("/api/connections")[1]["connections"]]
