"""Parsing of HTTP request heads, without a socket. tests/conformance covers malformed requests to a whole server."""

from __future__ import annotations

import tracemalloc

import pytest

from tidings.errors import BadRequest
from tidings_hub.engine.protocols import http_request


def parse(text: str) -> http_request.RequestHead:
    return http_request.parse_head(text.replace("\n", "\r\n").encode("latin-1"))


def test_head_is_parsed_into_its_parts() -> None:
    parsed = parse(
        "POST /a/b?x=1&y=%20 HTTP/1.1\nHost: h\nContent-Length: 7\nX-A: 1\nx-a: 2\nCookie: a=1\nCookie: b=2\n\n"
    )
    assert (parsed.method, parsed.path, parsed.query, parsed.length) == ("POST", "/a/b", "x=1&y=%20", 7)
    assert parsed.headers["x-a"] == "1, 2"
    assert parsed.headers["cookie"] == "a=1; b=2"
    assert parsed.keep_alive
    assert parsed.has_body
    assert not parsed.wants_websocket


@pytest.mark.parametrize(
    ("target", "path", "query", "host"),
    [
        ("http://other/x?y", "/x", "y", "other"),
        ("http://other", "/", "", "other"),
        ("HTTPS://other:8000?y", "/", "y", "other:8000"),
        ("http://[::1]:80/x#z", "/x", "", "[::1]:80"),
    ],
)
def test_host_of_an_absolute_target_replaces_the_header(target: str, path: str, query: str, host: str) -> None:
    head = parse(f"GET {target} HTTP/1.1\nHost: h\n\n")
    assert (head.path, head.query, head.headers["host"]) == (path, query, host)


@pytest.mark.parametrize("target", ["http:///x", "http://a@b/x", "http://a:b/x", "ftp://h/x", "http://a b/x"])
def test_absolute_target_without_a_valid_host_is_rejected(target: str) -> None:
    with pytest.raises(BadRequest):
        parse(f"GET {target} HTTP/1.1\nHost: h\n\n")


def test_keep_alive_depends_on_version_and_connection_header() -> None:
    assert not parse("GET / HTTP/1.1\nHost: h\nConnection: Close\n\n").keep_alive
    assert not parse("GET / HTTP/1.0\n\n").keep_alive


def test_chunked_body_has_no_length() -> None:
    parsed = parse("POST / HTTP/1.1\nHost: h\nTransfer-Encoding: Chunked\n\n")
    assert parsed.length is None
    assert parsed.has_body


@pytest.mark.parametrize(
    "upgrade", ["websocket", "WebSocket", " websocket ", "h2c, websocket", "h2c\nUpgrade: websocket"]
)
@pytest.mark.parametrize("connection", ["Upgrade", "keep-alive, Upgrade", "upgrade,HTTP2-Settings"])
def test_websocket_handshake_is_recognized(upgrade: str, connection: str) -> None:
    assert parse(f"GET / HTTP/1.1\nHost: h\nConnection: {connection}\nUpgrade: {upgrade}\n\n").wants_websocket


@pytest.mark.parametrize(
    "start",
    [
        "GET / HTTP/1.1\nHost: h\nConnection: Upgrade, HTTP2-Settings\nUpgrade: h2c\n\n",
        "GET / HTTP/1.1\nHost: h\nConnection: Upgrade\nUpgrade: TLS/1.0, HTTP/2.0\n\n",
        "GET / HTTP/1.1\nHost: h\nConnection: Upgrade\nUpgrade: websocket2\n\n",
        "GET / HTTP/1.1\nHost: h\nConnection: Upgrade\nUpgrade:\n\n",
        "GET / HTTP/1.1\nHost: h\nConnection: not-upgrade\nUpgrade: websocket\n\n",
        "GET / HTTP/1.1\nHost: h\nUpgrade: websocket\n\n",
        "GET / HTTP/1.0\nConnection: Upgrade\nUpgrade: websocket\n\n",
        "POST / HTTP/1.1\nHost: h\nConnection: Upgrade\nUpgrade: websocket\nContent-Length: 2\n\n",
    ],
)
def test_other_upgrade_is_ignored(start: str) -> None:
    assert not parse(start).wants_websocket


@pytest.mark.parametrize("body", ["Content-Length: 2", "Transfer-Encoding: chunked"])
def test_body_may_come_with_an_upgrade_to_http_2_but_not_to_a_websocket(body: str) -> None:
    start = f"HTTP/1.1\nHost: h\nConnection: Upgrade\n{body}\nUpgrade:"
    assert parse(f"POST / {start} h2c\n\n").has_body
    assert parse(f"GET / {start} h2c\n\n").has_body
    with pytest.raises(BadRequest):
        parse(f"GET / {start} websocket\n\n")


def test_header_name_with_underscore_is_discarded() -> None:
    assert "device_id" not in parse("GET / HTTP/1.1\nHost: h\nDevice_Id: 1\n\n").headers


@pytest.mark.parametrize("name", ["X_Forwarded_For", "Content_Length", "X_Api_Key", "Device_Id"])
def test_underscore_name_that_imitates_another_header_is_rejected(name: str) -> None:
    with pytest.raises(BadRequest):
        parse(f"GET / HTTP/1.1\nHost: h\nDevice-Id: 1\n{name}: 1\n\n")


def test_every_start_of_a_valid_head_is_accepted() -> None:
    complete = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    for length in range(len(complete)):
        http_request.check_partial(complete[:length])


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\nHo", b"GET / HTTP/1.1\rHo"])
def test_partial_head_is_rejected_at_its_first_bad_line(data: bytes) -> None:
    with pytest.raises(BadRequest):
        http_request.check_partial(data)


HEAD = b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n"


def test_head_is_incomplete_until_its_last_byte() -> None:
    for position in range(1, len(HEAD)):
        for end in range(position + 1, len(HEAD) + 1):
            assert http_request.stays_incomplete(HEAD[:position], HEAD[position:end]) is (end < len(HEAD))


@pytest.mark.parametrize("data", [b"\n", b"x\ny", b"\rx"])
def test_line_without_cr_lf_is_not_accepted_as_incomplete(data: bytes) -> None:
    assert not http_request.stays_incomplete(b"GET / HTTP/1.1\r\nX: y", data)
    assert not http_request.stays_incomplete(b"GET / HTTP/1.1\r", b"x")


def test_bytes_that_lengthen_a_head_cost_the_same_however_long_it_is() -> None:
    """Counted in bytes that are allocated, which does not depend on the machine."""
    peaks = []
    for size in (100, 16_000):
        head = b"GET / HTTP/1.1\r\nX: " + b"y" * size
        tracemalloc.start()
        assert http_request.stays_incomplete(head, b"z")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] <= peaks[0] + 100


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_heads_with_the_same_lines_are_parsed_once(method: str) -> None:
    lines = "HTTP/1.1\r\nHost: hub\r\nContent-Length: 7\r\nX-Case: parsed-once\r\n\r\n"
    first, second = (http_request.parse_head(f"{method} /path?t={number} {lines}".encode()) for number in (1, 2))
    assert (first.method, first.query, first.length) == (method, "t=1", 7)
    assert (second.method, second.query, second.length) == (method, "t=2", 7)
    assert first.headers is second.headers


@pytest.mark.parametrize("header", ["Authorization: Bearer secret", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="])
def test_head_that_no_other_request_repeats_is_not_kept(header: str) -> None:
    data = f"GET / HTTP/1.1\r\nHost: hub\r\n{header}\r\n\r\n".encode()
    assert http_request.parse_head(data).headers is not http_request.parse_head(data).headers
