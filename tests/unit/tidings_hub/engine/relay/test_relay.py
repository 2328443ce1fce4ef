"""Requests as they are forwarded to another node, and as the WSGI application gets them."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator

import pytest

from support.engine_metrics import EngineCounters
from support.limits import engine_limits
from tidings_hub.core.node_directory import NodeDirectory
from tidings_hub.core.relay_stamp import STAMP_HEADER
from tidings_hub.engine.protocols.http_request import RequestHead, parse_head
from tidings_hub.engine.relay.relay import Relay, request_bytes
from tidings_hub.engine.relay.splice import Splice
from tidings_hub.engine.relay.upstream import Upstream, connect
from tidings_hub.engine.requests.wsgi_handler import request_bytes as wsgi_request_bytes
from tidings_hub.engine.server import EngineServer

TARGET = "/socket.io/?EIO=4&transport=polling&sid=n2"
STAMP = "1 n2 5 203.0.113.9 http shop.example 00"


def head_of(*lines: str, method: str = "GET") -> RequestHead:
    return parse_head("\r\n".join([f"{method} {TARGET} HTTP/1.1", "Host: shop.example", *lines, "", ""]).encode())


def test_forwarded_request_has_only_the_headers_that_the_owner_needs() -> None:
    head = head_of(
        "Origin: https://shop.example",
        "Cookie: session=secret",
        "Authorization: Bearer secret",
        "X-Forwarded-For: 1.2.3.4",
        f"{STAMP_HEADER}: of a client",
        "User-Agent: x",
    )
    forwarded = parse_head(request_bytes(head, b"", STAMP))
    assert (forwarded.method, f"{forwarded.path}?{forwarded.query}", forwarded.version, forwarded.keep_alive) == (
        "GET",
        TARGET,
        "1.1",
        True,
    )
    assert forwarded.headers == {"host": "shop.example", "origin": "https://shop.example", STAMP_HEADER: STAMP}


def test_forwarded_head_is_not_reused_for_the_next_request() -> None:
    assert parse_head(request_bytes(head_of(), b"", STAMP)).lines == b""


def test_chunked_body_is_forwarded_with_a_content_length() -> None:
    raw = request_bytes(head_of("Transfer-Encoding: chunked", method="POST"), b"42[]", STAMP)
    assert raw.endswith(b"\r\n\r\n42[]")
    assert parse_head(raw[:-4]).length == 4


def test_connection_close_is_forwarded() -> None:
    assert not parse_head(request_bytes(head_of("Connection: close"), b"", STAMP)).keep_alive


def test_websocket_handshake_is_forwarded_unchanged() -> None:
    lines = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: a2V5", "Sec-WebSocket-Version: 13")
    forwarded = parse_head(request_bytes(head_of(*lines), b"", STAMP))
    assert forwarded.wants_websocket
    assert forwarded.headers["sec-websocket-key"] == "a2V5"
    assert forwarded.headers["connection"] == "Upgrade"


def test_only_the_hub_can_mark_a_request_as_relayed() -> None:
    head = head_of("Tidings-Relayed: 1", f"{STAMP_HEADER}: {STAMP}")
    assert b"tidings-relay" not in wsgi_request_bytes(head, b"", trusted=True)
    assert wsgi_request_bytes(head, b"", trusted=True, relayed=True).count(b"tidings-relay") == 1


@pytest.mark.parametrize("address", ["", "host", "127.0.0.1:", "127.0.0.1:x", "unix:/nowhere/at/all", "localhost:1"])
def test_unusable_address_raises_os_error(address: str) -> None:
    with pytest.raises(OSError, match=r".+"):
        connect(address)


ADDRESS = "unix:/nowhere"


@pytest.fixture
def relay() -> Iterator[Relay]:
    server = EngineServer(engine_limits(), metrics=EngineCounters(), log=logging.getLogger("test"), node_id="n1-")
    nodes = NodeDirectory("n1-", {"n2-": ADDRESS}, silent_s=9.0)
    yield server.enable_relay(nodes, [b"k" * 32], request_refresh=lambda: None, cluster_time_s=time.time)
    server.pump.stop()


@pytest.mark.parametrize("stray", [b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2", None], ids=["response", "end"])
def test_idle_connection_on_which_anything_arrived_is_not_used(relay: Relay, stray: bytes | None) -> None:
    """The pump has not seen it yet. It would be the response to the next request."""
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    with peer:
        upstream = Upstream(relay, ours.detach(), "n2-", ADDRESS)
        assert relay.keep_idle(upstream)
        assert relay._pop_idle(ADDRESS) is upstream
        assert relay.keep_idle(upstream)
        if stray is None:
            peer.shutdown(socket.SHUT_WR)
        else:
            peer.sendall(stray)
        assert relay._pop_idle(ADDRESS) is None
        assert relay.sockets == 0


@pytest.mark.parametrize("broken", ["client", "owner"])
def test_websocket_to_another_node_ends_quietly_when_a_side_breaks_during_a_write(relay: Relay, broken: str) -> None:
    """The pump has not seen it yet, because it handles the event of the other side first."""
    pairs = {"client": socket.socketpair(), "owner": socket.socketpair()}
    for ours, _ in pairs.values():
        ours.setblocking(False)
        relay.context.pump.add(ours.fileno(), relay)  # type: ignore[arg-type]  # the splice takes its place
    relay.sockets = 1
    splice = Splice(relay, "n2-", *(ours.detach() for ours, _ in pairs.values()))
    pairs[broken][1].close()
    if broken == "client":
        splice.start(b"data")
    else:
        splice.on_frames(b"data")
    other = pairs["owner" if broken == "client" else "client"][1]
    with other:
        assert other.recv(1) == b""
    assert (relay.sockets, len(relay), len(relay.context.pump)) == (0, 0, 0)
