"""Rendering of HTTP responses."""

from __future__ import annotations

from tidings_hub.engine.protocols import http_response


def test_response_has_type_length_and_date() -> None:
    response = http_response.render(200, b"hi", extra_headers=b"X: y\r\n")
    assert response.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Length: 2\r\n")
    assert b"\r\nX: y\r\n\r\nhi" in response
    assert b"\r\nDate: " in response


def test_status_204_has_no_content_length() -> None:
    assert b"Content-Length" not in http_response.render(204, b"")


def test_preflight_echoes_only_valid_header_names() -> None:
    assert b"Allow-Headers: x-a, x-b\r\n" in http_response.preflight_lines("x-a, x-b")
    assert b"Allow-Headers: x_request_id, x.trace\r\n" in http_response.preflight_lines("x_request_id,x.trace")
    assert b"Allow-Headers: content-type\r\n" in http_response.preflight_lines("x\r\nSet-Cookie: a")
    assert b"Allow-Headers: x-a\r\n" in http_response.preflight_lines("x b, x-a,, \xe9")
    assert b"Allow-Headers: content-type\r\n" in http_response.preflight_lines(None)


def test_preflight_echoes_a_long_list() -> None:
    names = ", ".join(f"x-header-{number}" for number in range(100))
    assert f"Allow-Headers: {names}\r\n".encode() in http_response.preflight_lines(names)
