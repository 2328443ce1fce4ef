"""Hooks over real HTTP, and addresses that hooks may not use."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from support.network.hook_server import SECRET, HookServer, closing_in_silence, respond, stall, trickle
from support.network.scripted_server import Peer, ScriptedServer, answering, closing_after, response
from tidings.errors import BadConfig
from tidings_hub.config.hooks import Hooks
from tidings_hub.extensions.hooks.client import HookClient, HookFailed


@pytest.fixture
def server() -> Iterator[HookServer]:
    with HookServer() as hook_server:
        yield hook_server


Make = Callable[..., HookClient]


@pytest.fixture
def client() -> Iterator[Make]:
    """Makes clients, and closes their connections after the test."""
    clients: list[HookClient] = []

    def make(url: str, **more: Any) -> HookClient:
        options = {"allow_private": True, "timeout_s": 2.0, **more}
        clients.append(HookClient(Hooks(url=url, events=("connect",), secret=SecretStr(SECRET), **options)))
        return clients[-1]

    yield make
    for hook_client in clients:
        hook_client.close()


BODY = b'{"hook":"connect","user":"7"}'


def test_connections_are_reused_if_answers_repeat_the_signature(client: Make, server: HookServer) -> None:
    server.echoes = True
    hook_client = client(server.url)
    assert [hook_client.send(BODY) for _ in range(3)] == [b"{}"] * 3
    assert server.connections == 1


def test_connections_are_not_reused_otherwise(client: Make, server: HookServer) -> None:
    hook_client = client(server.url)
    assert [hook_client.send(BODY) for _ in range(3)] == [b"{}"] * 3
    assert server.connections == 3


DENIED = b'{"error":{"code":"forbidden"}}'


def signed(request: bytes, body: bytes) -> bytes:
    """An answer that repeats the signature of its request."""
    line = next(line for line in request.split(b"\r\n") if line.startswith(b"Tidings-Signature"))
    return response(body, headers=line + b"\r\n")


def hook(number: int) -> bytes:
    return b'{"hook":"connect","id":"%d"}' % number


@pytest.mark.parametrize("is_signed", [True, False])
@pytest.mark.parametrize("when", ["with the answer", "before the next hook", "after the next hook"])
def test_stray_second_answer_is_not_the_answer_to_the_next_hook(client: Make, when: str, is_signed: bool) -> None:
    """A denial must not become "allowed", whenever the stray answer arrives and whether the backend signs or not."""
    stray_is_sent = threading.Event()

    def allow_first(peer: Peer) -> None:
        first = peer.read_request()
        answer = signed(first, b"{}") if is_signed else response(b"{}")
        stray = signed(first, b"{}") if is_signed else response(b"{}")
        if when == "with the answer":
            peer.send(answer + stray)
        else:
            peer.send(answer)
            if when == "before the next hook":
                peer.send(stray)
        stray_is_sent.set()
        second = peer.read_request()
        if when == "after the next hook":
            peer.send(stray)
            peer.wait(0.1)
        peer.send(signed(second, DENIED) if is_signed else response(DENIED))

    with ScriptedServer(allow_first) as server:
        hook_client = client(server.url)
        assert hook_client.send(hook(1)) == b"{}"
        assert stray_is_sent.wait(5)
        server.script = answering(response(DENIED))
        assert hook_client.send(hook(2)) == DENIED
        assert server.connections == 2


@pytest.mark.parametrize("stray", [b"", b"Tidings-Signature: t=1,v1=00\r\n"])
def test_kept_connection_requires_the_signature(client: Make, stray: bytes) -> None:
    """The backend repeats it once, and a proxy before it answers the next hook by itself."""

    def sign_once(peer: Peer) -> None:
        peer.send(signed(peer.read_request(), b"{}"))
        peer.read_request()
        peer.send(response(b"{}", headers=stray))

    with ScriptedServer(sign_once) as server:
        hook_client = client(server.url)
        assert hook_client.send(hook(1)) == b"{}"
        server.script = answering(response(DENIED))
        assert hook_client.send(hook(2)) == DENIED
        assert server.connections == 2


def test_answer_that_waits_for_the_next_hook_is_not_its_answer(client: Make) -> None:
    """Two answers arrive to the second hook. Neither is used, and the hook is sent again on a new connection."""

    def answer_late(peer: Peer) -> None:
        peer.send(signed(peer.read_request(), b"{}"))
        second = peer.read_request()
        peer.send(signed(second, b"{}") + signed(second, DENIED))

    with ScriptedServer(answer_late) as server:
        hook_client = client(server.url)
        assert hook_client.send(hook(1)) == b"{}"
        server.script = answering(response(DENIED))
        assert hook_client.send(hook(2)) == DENIED
        assert server.connections == 2


def test_answer_with_the_signature_of_another_hook_is_a_failure(client: Make) -> None:
    foreign = response(b"{}", headers=b"Tidings-Signature: t=1,v1=00\r\n")
    with ScriptedServer(answering(foreign)) as server, pytest.raises(HookFailed, match="another request"):
        client(server.url).send(BODY)


def test_late_answer_of_a_hook_that_timed_out_is_dropped(client: Make) -> None:
    def answer_late(peer: Peer) -> None:
        peer.read_request()
        peer.wait(0.4)
        peer.send(response(b"{}"))
        peer.read_request()
        peer.send(response(b"{}"))

    with ScriptedServer(answer_late) as server:
        hook_client = client(server.url, timeout_s=0.2)
        with pytest.raises(HookFailed):
            hook_client.send(BODY)
        server.script = answering(response(DENIED))
        time.sleep(0.4)
        assert hook_client.send(BODY) == DENIED


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 0\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nX\r\nContent-Length: 30\r\n\r\n" + DENIED,
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{}",
        b"220 mail.example ESMTP\r\n\r\n",
    ],
)
def test_answer_that_is_not_exactly_http_is_a_failure(client: Make, data: bytes) -> None:
    with ScriptedServer(closing_after(data)) as server, pytest.raises(HookFailed) as raised:
        client(server.url).send(BODY)
    assert raised.value.outcome == "failed"


def test_interim_responses_precede_the_answer(client: Make) -> None:
    with ScriptedServer(answering(b"HTTP/1.1 103 Early Hints\r\n\r\n" + response(DENIED))) as server:
        assert client(server.url).send(BODY) == DENIED


def test_closed_connection_is_opened_again(client: Make, server: HookServer) -> None:
    server.echoes = True
    hook_client = client(server.url)
    server.answer = closing_in_silence
    assert [hook_client.send(BODY) for _ in range(3)] == [b"{}"] * 3
    assert server.connections == 3


@pytest.mark.parametrize("answer", [stall, trickle])
def test_server_that_does_not_respond_is_a_timeout(client: Make, server: HookServer, answer: Any) -> None:
    server.answer = answer
    with pytest.raises(HookFailed) as raised:
        client(server.url, timeout_s=0.3).send(BODY)
    assert raised.value.outcome == "timeout"


@pytest.mark.parametrize(
    ("status", "headers"),
    [(301, {"Location": "http://127.0.0.1:1/"}), (307, {"Location": "/x"}), (403, {}), (500, {}), (201, {})],
)
def test_other_status_is_a_failure_and_no_redirect_is_followed(
    client: Make, server: HookServer, status: int, headers: dict[str, str]
) -> None:
    server.answer = respond({}, status, **headers)
    with pytest.raises(HookFailed, match=f"status {status}"):
        client(server.url).send(BODY)
    assert len(server.requests) == 1


def test_size_of_a_response_is_limited(client: Make, server: HookServer) -> None:
    server.answer = respond(b" " * 65)
    with pytest.raises(HookFailed, match="64 bytes"):
        client(server.url, answer_max_bytes=64).send(BODY)


def test_refused_connection_is_a_failure(client: Make) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(HookFailed):
        client(f"http://127.0.0.1:{port}/").send(BODY)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "127.1", "0", "[::1]",
             "[::ffff:127.0.0.1]", "169.254.169.254", "10.0.0.1"]
)  # fmt: skip
def test_no_request_is_sent_to_a_private_address(client: Make, host: str, server: HookServer) -> None:
    with pytest.raises(HookFailed, match=r"not allowed|gaierror"):
        client(f"https://{host}:{server.port}/", allow_private=False).send(BODY)
    assert server.connections == 0


def test_host_name_with_one_private_address_is_rejected(
    client: Make, server: HookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, server.port)) for address in ("8.8.8.8", "127.0.0.1")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
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
def test_invalid_url_is_rejected_at_the_start_of_the_hub(client: Make, url: str, about: str) -> None:
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
