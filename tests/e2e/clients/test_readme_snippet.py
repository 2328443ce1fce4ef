"""The stock client of README.md outlives its tokens, and recovers from whatever /token responds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from support.processes.client import ClientProcess
from support.processes.hub import SECRET, HubProcess, token
from support.programs.web_page import serve_pages
from support.waiting import wait_until
from tidings.tokens import issue

LIFE_S = 4.0
# A client whose CONNECT does not come, because it got no token, is closed after `connect_timeout_s`.
EXTRA = "expiry_warning_s = 2.5\ntoken_leeway_s = 0.0\nconnect_timeout_s = 0.5\n"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    process = HubProcess(tmp_path_factory.mktemp("hub"), extra=EXTRA).start()
    yield process
    process.stop()


Files = dict[str, Callable[[], str]]


@pytest.fixture
def files() -> Files:
    """What the backend serves."""
    return {"/token": lambda: token("7", "orders:*", expires_in_s=LIFE_S)}


@contextmanager
def _page(transport: str, hub: HubProcess, files: Files) -> Iterator[ClientProcess]:
    with serve_pages(files) as origin:
        client = ClientProcess(f"readme-{transport}", hub.url, channels=[], token_url=f"{origin}/token")
        try:
            yield client
        finally:
            client.stop()


def _publish(hub: HubProcess, *numbers: int) -> None:
    for number in numbers:
        data = {"class": "Order", "model": {"n": number}, "op": "updated", "version": number}
        hub.publish("orders:42", "updated_model", data)


def _wait_for(client: ClientProcess, *numbers: int) -> None:
    client.wait(lambda client: len(client.data()) >= len(numbers), why=f"publications {numbers}")
    assert [data["n"] for data in client.data()] == list(numbers)


def test_stock_client_of_the_readme_outlives_its_tokens(hub: HubProcess, files: Files) -> None:
    with _page("websocket", hub, files) as client:
        client.wait(lambda client: client.records_of("connect"), why="the first connect")
        _publish(hub, 1)
        # On one connection: the hub announces the end of the token, and the client refreshes.
        client.wait(lambda client: len(client.records_of("token")) > 2, why="two new tokens")
        _publish(hub, 2)
        _wait_for(client, 1, 2)
        assert client.records_of("disconnect") == []

        # It sleeps for longer than its token is valid. The hub closes the connection, and the client gets a new token.
        client.pause()
        before = hub.metric("tidings_tokens_expired_total")
        wait_until(lambda: hub.metric("tidings_tokens_expired_total") > before, why="the token ends")
        _publish(hub, 3)
        client.resume()
        _wait_for(client, 1, 2, 3)
        assert len(client.records_of("reload")) == 1


def test_stock_client_of_the_readme_recovers_from_a_backend_without_tokens(hub: HubProcess, files: Files) -> None:
    valid = files["/token"]
    # An old token, then an error page: the client waits until the backend has a valid one.
    files["/token"] = lambda: issue("7", key=SECRET, expires_in_s=1, now_s=time.time() - 600)
    with _page("polling", hub, files) as client:
        refusal = {"kind": "connect_error", "code": "expired"}
        client.wait(lambda client: refusal in client.records, why="the hub refuses the token")
        del files["/token"]
        client.wait(lambda client: client.records_of("unhandled"), why="an error page is no token")
        files["/token"] = valid
        client.wait(lambda client: client.records_of("connect"), why="a valid token")
        client.wait(lambda client: client.records_of("reload"), why="tidings:ready")
        _publish(hub, 4)
        _wait_for(client, 4)


class _Backend:
    """Responds with the token of one user, as soon as it may."""

    def __init__(self, user: str) -> None:
        self._user = user
        self.is_asked, self.may_respond = threading.Event(), threading.Event()

    def respond(self) -> str:
        self.is_asked.set()
        self.may_respond.wait(20)
        return token(self._user, "orders:*")


@pytest.mark.parametrize("transport", ["websocket", "polling"])
@pytest.mark.parametrize("comes", ["before the new one", "after the new one"])
def test_late_token_of_the_previous_user_is_not_used(hub: HubProcess, files: Files, transport: str, comes: str) -> None:
    backends = [_Backend("ann"), _Backend("bob")]
    ann, bob = backends
    files["/token"] = ann.respond
    with _page(transport, hub, files) as client:
        assert ann.is_asked.wait(20)
        client.send_command({"call": "disconnect"})
        files["/token"] = bob.respond
        client.send_command({"call": "connect"})
        assert bob.is_asked.wait(20)
        for backend in backends if comes == "before the new one" else backends[::-1]:
            responses = len(client.records_of("response"))
            backend.may_respond.set()
            client.wait(lambda client, count=responses: len(client.records_of("response")) > count, why="a token")
            if backend is bob:
                client.wait_ready()
        _publish(hub, 1)
        _wait_for(client, 1)
        assert {record["user"] for record in client.records_of("ready")} == {"bob"}
        assert client.records_of("connect_error") == []
