"""Connections against servers that send, byte for byte, what a script says."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.network.certificates import Authority
from support.network.scripted_server import (
    Peer,
    Script,
    ScriptedServer,
    answering,
    closing_after,
    dripping,
    response,
    silent,
)
from support.waiting import wait_until
from tidings.errors import BadConfig
from tidings.http_client.connection import HttpAddress, HttpConnection
from tidings.http_client.deadline import Deadline
from tidings.http_client.response import BadHttpResponse

OK = b"HTTP/1.1 200 OK\r\n"


def exchange(connection: HttpConnection, path: str = "/", *, timeout_s: float = 5.0) -> tuple[int, bytes]:
    return connection.exchange(path, b"{}", {"X": "y"}, deadline=Deadline.after(timeout_s), response_max_bytes=10_000)


opened: list[HttpConnection] = []


@pytest.fixture(autouse=True)
def close_all() -> Iterator[None]:
    yield
    while opened:
        opened.pop().close()


def open_at(address: HttpAddress) -> HttpConnection:
    opened.append(HttpConnection(address))
    return opened[-1]


def open_to(server: ScriptedServer, tls: ssl.SSLContext | None = None) -> HttpConnection:
    return open_at(HttpAddress("127.0.0.1", server.port, tls))


@pytest.mark.parametrize(
    "script",
    [
        silent,
        dripping(OK + b"X: "),
        dripping(OK + b"Content-Length: 9999\r\n\r\n"),
        dripping(OK + b"Transfer-Encoding: chunked\r\n\r\n1;"),
        dripping(OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 99),
        dripping(OK + b"\r\n"),
        dripping(b"HTTP/1.1 100 Continue\r\n\r\n" * 99),
    ],
)
def test_no_response_takes_longer_than_the_deadline(script: Script) -> None:
    with ScriptedServer(script) as server:
        began_s = time.monotonic()
        with pytest.raises(TimeoutError):
            exchange(open_to(server), timeout_s=0.4)
        assert time.monotonic() - began_s < 2


@pytest.mark.parametrize("script", [silent, dripping(b"\x16\x03\x03\x40\x00", reads=False)])
def test_tls_handshake_ends_at_the_deadline(script: Script) -> None:
    with ScriptedServer(script) as server:
        connection = open_to(server, ssl.create_default_context())
        began_s = time.monotonic()
        with pytest.raises(TimeoutError):
            exchange(connection, timeout_s=0.4)
        assert time.monotonic() - began_s < 2
        assert not connection.is_open


def _answering_late(first: bytes, second: bytes) -> Script:
    def serve(peer: Peer) -> None:
        peer.read_request()
        peer.send(first)
        peer.wait(0.1)
        peer.send(second)
        peer.wait(60)

    return serve


@pytest.mark.parametrize(
    "script",
    [
        answering(response(b"1") + response(b"stray"), response(b"2")),
        _answering_late(response(b"1"), response(b"stray")),
    ],
    ids=["in one piece with the first", "later, while the connection is idle"],
)
def test_stray_second_response_is_not_the_response_to_the_next_request(script: Script) -> None:
    with ScriptedServer(script) as server:
        connection = open_to(server)
        assert exchange(connection) == (200, b"1")
        wait_until(lambda: not connection.is_reusable())
        connection.close()
        server.script = answering(response(b"2"))
        assert exchange(connection) == (200, b"2")
        assert connection.is_reusable()


def test_connection_that_the_server_closed_is_not_reusable() -> None:
    with ScriptedServer(closing_after(response(b"1"))) as server:
        connection = open_to(server)
        assert exchange(connection) == (200, b"1")
        wait_until(lambda: not connection.is_reusable())


@pytest.mark.parametrize("headers", [b"Connection: close\r\n", b""])
def test_connection_is_kept_only_if_the_server_keeps_it(headers: bytes) -> None:
    with ScriptedServer(answering(response(b"1", headers=headers))) as server:
        connection = open_to(server)
        exchange(connection)
        assert connection.is_open is (headers == b"")


def test_invalid_response_closes_the_connection() -> None:
    with ScriptedServer(answering(OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n")) as server:
        connection = open_to(server)
        with pytest.raises(BadHttpResponse):
            exchange(connection)
        assert not connection.is_open
        assert connection.response_started


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = Authority.make(Path(tmp_path_factory.mktemp("tls")) / "authority")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*authority.issue("server"))
    return server, ssl.create_default_context(cafile=str(authority.file))


def _over_tls(context: ssl.SSLContext, run: Callable[[ssl.SSLSocket], None]) -> int:
    """A TLS server for one connection; returns its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener, listener.accept()[0] as plain:
            try:
                with context.wrap_socket(plain, server_side=True) as tls:
                    run(tls)
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    port: int = listener.getsockname()[1]
    return port


def test_exchanges_over_tls_share_a_connection(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    body = b"x" * 9_000
    server, client = contexts

    def run(tls: ssl.SSLSocket) -> None:
        for _ in range(3):
            tls.recv(65_536)
            tls.sendall(response(body))
        tls.recv(1)

    connection = open_at(HttpAddress("127.0.0.1", _over_tls(server, run), client))
    for _ in range(3):
        assert exchange(connection) == (200, body)
        assert connection.is_reusable()
    connection.close()


@pytest.mark.parametrize("head", [OK + b"Content-Length: 100\r\n\r\n{}", OK + b"\r\n{}"])
def test_truncated_tls_is_an_error(contexts: tuple[ssl.SSLContext, ssl.SSLContext], head: bytes) -> None:
    server, client = contexts

    def run(tls: ssl.SSLSocket) -> None:
        tls.recv(65_536)
        tls.sendall(head)
        # Without TLS's own end of the stream, as if a third party had cut the connection.
        socket.socket(fileno=tls.detach()).close()

    connection = open_at(HttpAddress("127.0.0.1", _over_tls(server, run), client))
    with pytest.raises(OSError):
        exchange(connection)


def test_certificate_and_host_name_are_checked(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    server, client = contexts
    for context, host in ((ssl.create_default_context(), "127.0.0.1"), (client, "localhost")):
        port = _over_tls(server, lambda tls: tls.sendall(b"x"))
        with pytest.raises(ssl.SSLCertVerificationError):
            exchange(open_at(HttpAddress(host, port, context)))


def test_all_addresses_of_a_host_must_be_allowed() -> None:
    with ScriptedServer(silent) as server:
        connection = open_at(HttpAddress("localhost", server.port, None, lambda _: False))
        with pytest.raises(OSError, match="not allowed"):
            exchange(connection)
        assert server.connections == 0


def test_checked_address_is_the_one_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that resolves to another address at the second look-up (DNS rebinding) has only one look-up."""
    with ScriptedServer(answering(response(b"1"))) as server:
        lookups: list[str] = []

        def resolve(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
            lookups.append(host)
            address = "127.0.0.1" if len(lookups) == 1 else "127.0.0.2"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        address = HttpAddress("rebound.example", server.port, None, lambda ip: ip == "127.0.0.1")
        assert exchange(open_at(address)) == (200, b"1")
        assert lookups == ["rebound.example"]


def test_address_that_does_not_respond_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(answering(response(b"1"))) as server, socket.socket() as full:
        # The queue of this listener is full, so a connect to it waits.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        places = [full.getsockname(), ("127.0.0.1", server.port)]
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places],
        )
        assert exchange(open_at(HttpAddress("two.example", 1, None)), timeout_s=1.0) == (200, b"1")
        for sock in waiting:
            sock.close()


@pytest.mark.parametrize("host", ["a" * 70 + ".example", "a..example", ".example"])
def test_name_that_no_host_can_have_is_an_os_error(host: str) -> None:
    with pytest.raises(OSError):
        exchange(open_at(HttpAddress(host, 80, None)))


@pytest.mark.parametrize("path", ["/a b", "/a\r\nX: y", "/é", ""])
def test_path_that_would_change_the_request_is_rejected(path: str) -> None:
    with ScriptedServer(silent) as server, pytest.raises(BadConfig):
        exchange(open_to(server), path)


def test_proxy_makes_a_tunnel(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    requests: list[bytes] = []

    def refuse(peer: Peer) -> None:
        requests.append(peer.read_request())
        peer.send(b"HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\nnever")

    with ScriptedServer(refuse) as proxy:
        address = HttpAddress("id.example", 443, contexts[1], proxy=("127.0.0.1", proxy.port))
        with pytest.raises(BadHttpResponse, match="403"):
            exchange(open_at(address))
    assert requests == [b"CONNECT id.example:443 HTTP/1.1\r\nHost: id.example:443\r\n\r\n"]


def test_address_of_a_family_that_the_machine_lacks_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(answering(response(b"ok"))) as server:
        # Linux has no such family. An IPv6 address fails in the same way where IPv6 is off.
        addresses = [
            (4095, socket.SOCK_STREAM, 0, "", ("::1", server.port)),
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", server.port)),
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
        connection = HttpConnection(HttpAddress("backend.example", server.port, None))
        assert exchange(connection) == (200, b"ok")
        connection.close()
