"""One hook over real HTTP, and where none goes."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from support.network.hook_server import SECRET, HookServer, closing_in_silence, respond, stall, trickle
from tidings.errors import BadConfig
from tidings_hub.config.hooks import Hooks
from tidings_hub.extensions.hooks.client import HookClient, HookFailed


@pytest.fixture
def server() -> Iterator[HookServer]:
    with HookServer() as made:
        yield made


Make = Callable[..., HookClient]


@pytest.fixture
def client() -> Iterator[Make]:
    """Makes clients, and closes what they keep."""
    made: list[HookClient] = []

    def make(url: str, **more: Any) -> HookClient:
        given = {"allow_private": True, "timeout_s": 2.0, **more}
        made.append(HookClient(Hooks(url=url, events=("connect",), secret=SecretStr(SECRET), **given)))
        return made[-1]

    yield make
    for each in made:
        each.close()


BODY = b'{"hook":"connect","user":"7"}'


def test_connections_are_kept(client: Make, server: HookServer) -> None:
    asking = client(server.url)
    assert [asking.send(BODY) for _ in range(3)] == [b"{}"] * 3
    assert server.connections == 1


def test_a_kept_connection_that_was_closed_is_made_again(client: Make, server: HookServer) -> None:
    asking = client(server.url)
    server.answer = closing_in_silence
    assert [asking.send(BODY) for _ in range(3)] == [b"{}"] * 3
    assert server.connections == 3


@pytest.mark.parametrize("answer", [stall, trickle])
def test_who_does_not_answer_is_given_up(client: Make, server: HookServer, answer: Any) -> None:
    server.answer = answer
    with pytest.raises(HookFailed) as raised:
        client(server.url, timeout_s=0.3).send(BODY)
    assert raised.value.outcome == "timeout"


@pytest.mark.parametrize(
    ("status", "headers"),
    [(301, {"Location": "http://127.0.0.1:1/"}), (307, {"Location": "/x"}), (403, {}), (500, {}), (201, {})],
)
def test_any_other_status_is_a_failure_and_no_redirect_is_followed(
    client: Make, server: HookServer, status: int, headers: dict[str, str]
) -> None:
    server.answer = respond({}, status, **headers)
    with pytest.raises(HookFailed, match=f"status {status}"):
        client(server.url).send(BODY)
    assert len(server.requests) == 1


def test_an_answer_is_bounded(client: Make, server: HookServer) -> None:
    server.answer = respond(b" " * 65)
    with pytest.raises(HookFailed, match="64 bytes"):
        client(server.url, answer_max_bytes=64).send(BODY)


def test_nobody_there_is_a_failure(client: Make) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(HookFailed):
        client(f"http://127.0.0.1:{port}/").send(BODY)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "127.1", "0", "[::1]",
             "[::ffff:127.0.0.1]", "169.254.169.254", "10.0.0.1"]
)  # fmt: skip
def test_no_request_goes_to_an_address_that_is_not_public(client: Make, host: str, server: HookServer) -> None:
    with pytest.raises(HookFailed, match=r"not allowed|gaierror"):
        client(f"https://{host}:{server.port}/", allow_private=False).send(BODY)
    assert server.connections == 0


def test_a_name_with_one_private_address_is_refused_whole(
    client: Make, server: HookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, server.port)) for address in ("8.8.8.8", "127.0.0.1")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(HookFailed, match="not allowed"):
        client("https://rebound.example/", allow_private=False).send(BODY)
    assert server.connections == 0


@pytest.mark.parametrize(
    ("url", "about"),
    [
        ("http://shop.example/", "https"), ("ftp://shop.example/", "address"), ("https://u:p@shop.example/", "address"),
        ("https://127.0.0.1@evil.example/", "address"), ("https:///x", "address"), ("shop.example", "address"),
        ("https://shop.example:99999/", "address"), ("https://shop.example/#x", "address"), ("", "address"),
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_is_refused_when_the_hub_starts(client: Make, url: str, about: str) -> None:
    with pytest.raises(ValidationError, match=about):
        client(url, allow_private=False)


def test_hooks_are_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="one of secret and secret_env"):
        Hooks(url="https://shop.example/", events=("connect",))
    with pytest.raises(ValidationError, match="fewer than"):
        Hooks(url="https://shop.example/", events=("connect",), secret=SecretStr("short"))
    hooks = Hooks(url="https://shop.example/", events=("connect",), secret_env="HOOKS_SECRET")
    with pytest.raises(BadConfig, match="HOOKS_SECRET"):
        HookClient(hooks)
    assert hooks.signing_secret({"HOOKS_SECRET": SECRET}) == SECRET
