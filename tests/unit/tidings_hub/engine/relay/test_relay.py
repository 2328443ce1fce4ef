from __future__ import annotations

import pytest

from tidings_hub.core.relay_stamp import STAMP_HEADER
from tidings_hub.engine.protocols.http_request import RequestHead, parse_head
from tidings_hub.engine.relay.relay import request_bytes
from tidings_hub.engine.relay.upstream import connect
from tidings_hub.engine.wsgi_handler import request_bytes as for_the_application

TARGET = "/socket.io/?EIO=4&transport=polling&sid=n2"
STAMP = "1 n2 5 203.0.113.9 http shop.example 00"


def head_of(*lines: str, method: str = "GET") -> RequestHead:
    return parse_head("\r\n".join([f"{method} {TARGET} HTTP/1.1", "Host: shop.example", *lines, "", ""]).encode())


def test_what_goes_to_another_node_is_what_it_needs_and_no_more() -> None:
    head = head_of(
        "Origin: https://shop.example",
        "Cookie: session=secret",
        "Authorization: Bearer secret",
        "X-Forwarded-For: 1.2.3.4",
        f"{STAMP_HEADER}: of a client",
        "User-Agent: x",
    )
    sent = parse_head(request_bytes(head, b"", STAMP))
    assert (sent.method, f"{sent.path}?{sent.query}", sent.version, sent.keep_alive) == ("GET", TARGET, "1.1", True)
    assert sent.headers == {"host": "shop.example", "origin": "https://shop.example", STAMP_HEADER: STAMP}


def test_a_stamped_head_is_never_kept_for_the_next_request() -> None:
    assert parse_head(request_bytes(head_of(), b"", STAMP)).lines == b""


def test_a_body_goes_with_its_length_whatever_its_coding_was() -> None:
    raw = request_bytes(head_of("Transfer-Encoding: chunked", method="POST"), b"42[]", STAMP)
    assert raw.endswith(b"\r\n\r\n42[]")
    assert parse_head(raw[:-4]).length == 4


def test_a_client_that_wants_to_end_is_answered_so_by_the_owner() -> None:
    assert not parse_head(request_bytes(head_of("Connection: close"), b"", STAMP)).keep_alive


def test_a_handshake_stays_one() -> None:
    lines = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: a2V5", "Sec-WebSocket-Version: 13")
    sent = parse_head(request_bytes(head_of(*lines), b"", STAMP))
    assert sent.wants_upgrade
    assert sent.headers["sec-websocket-key"] == "a2V5"
    assert sent.headers["connection"] == "Upgrade"


def test_the_application_is_told_only_by_the_hub_that_a_request_was_relayed() -> None:
    head = head_of("Tidings-Relayed: 1", f"{STAMP_HEADER}: {STAMP}")
    assert b"tidings-relay" not in for_the_application(head, b"", trusted=True)
    assert for_the_application(head, b"", trusted=True, relayed=True).count(b"tidings-relay") == 1


@pytest.mark.parametrize("address", ["", "host", "127.0.0.1:", "127.0.0.1:x", "unix:/nowhere/at/all", "localhost:1"])
def test_an_address_that_leads_nowhere_is_an_error_of_the_network(address: str) -> None:
    with pytest.raises(OSError, match=r".+"):
        connect(address)
