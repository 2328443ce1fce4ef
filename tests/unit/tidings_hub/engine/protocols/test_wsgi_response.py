"""A response of an application ends where its head states, or it is not sent."""

from __future__ import annotations

import pytest

from tidings_hub.engine.protocols.wsgi_response import BadWsgiResponse, checked_response

STRAY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def response(headers: bytes, body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\n%bDate: now\r\n\r\n%b" % (status, headers, body)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (b"Content-Length: 0\r\n", b""),
        (b"content-length:2 \r\nContent-Encoding: gzip\r\n", b"ok"),
        (b"Content-Length: %d\r\n" % len(STRAY), STRAY),
        (b"Transfer-Encoding: chunked\r\n", b"2\r\nok\r\n0\r\n\r\n"),
    ],
)
def test_complete_response_is_unchanged(headers: bytes, body: bytes) -> None:
    raw = response(headers, body)
    assert checked_response(raw, is_head_method=False, keep_alive=True) == raw


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (b"Content-Length: 1\r\n", b"x" + STRAY, b"200 OK"),
        (b"Content-Length: 50\r\n", b"x", b"200 OK"),
        (b"Content-Length: -1\r\n", b"x", b"200 OK"),
        (b"Content-Length: 1\r\nContent-Length: 1\r\n", b"x", b"200 OK"),
        (b"Content-Length: 11\r\nTransfer-Encoding: chunked\r\n", b"1\r\nx\r\n0\r\n\r\n", b"200 OK"),
        (b"Transfer-Encoding: chunked\r\n", b"x", b"200 OK"),
        (b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n" + STRAY, b"200 OK"),
        (b"Transfer-Encoding: gzip\r\n", b"0\r\n\r\n", b"200 OK"),
        (b"", b"x", b"200 OK"),
        (b"", b"", b"100 Continue"),
        (b"", b"", b"101 Switching Protocols"),
        (b"X: a\nContent-Length: 0\r\nContent-Length: 1\r\n", b"x", b"200 OK"),
        (b"Content-Length: 1\r\nX: a\r\n\r\n", b"x", b"200 OK"),
    ],
)
def test_response_that_ends_elsewhere_is_rejected(headers: bytes, body: bytes, status: bytes) -> None:
    with pytest.raises(BadWsgiResponse):
        checked_response(response(headers, body, status), is_head_method=False, keep_alive=True)


@pytest.mark.parametrize(
    ("status", "is_head_method"), [(b"200 OK", True), (b"204 No Content", False), (b"304 Not Modified", False)]
)
def test_body_that_http_does_not_allow_is_dropped(status: bytes, is_head_method: bool) -> None:
    head = response(b"Content-Length: 40\r\n", b"", status)
    assert checked_response(head + STRAY, is_head_method=is_head_method, keep_alive=True) == head


def test_body_without_a_length_ends_with_its_connection() -> None:
    raw = response(b"", b"text")
    assert checked_response(raw, is_head_method=False, keep_alive=False) == raw
