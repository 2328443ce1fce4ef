"""Parsing of HTTP request heads, without a socket. tests/conformance covers malformed requests to a whole server."""

from __future__ import annotations

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
    assert not parsed.wants_upgrade


def test_absolute_target_is_reduced_to_its_path() -> None:
    assert parse("GET http://other/x?y HTTP/1.1\nHost: h\n\n").path == "/x"
    assert parse("GET http://other HTTP/1.1\nHost: h\n\n").path == "/"


def test_keep_alive_depends_on_version_and_connection_header() -> None:
    assert not parse("GET / HTTP/1.1\nHost: h\nConnection: Close\n\n").keep_alive
    assert not parse("GET / HTTP/1.0\n\n").keep_alive


def test_chunked_body_has_no_length() -> None:
    parsed = parse("POST / HTTP/1.1\nHost: h\nTransfer-Encoding: Chunked\n\n")
    assert parsed.length is None
    assert parsed.has_body


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
