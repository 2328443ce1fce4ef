"""Requests as they are forwarded to another node, and as the WSGI application gets them."""

from __future__ import annotations

import pytest

from tidings_hub.core.relay_stamp import STAMP_HEADER
from tidings_hub.engine.protocols.http_request import RequestHead, parse_head
from tidings_hub.engine.relay.relay import request_bytes
from tidings_hub.engine.relay.upstream import connect
from tidings_hub.engine.wsgi_handler import request_bytes as wsgi_request_bytes

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
    assert forwarded.wants_upgrade
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
