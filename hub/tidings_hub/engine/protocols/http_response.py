"""Render HTTP/1.1 responses, without I/O."""

from __future__ import annotations

import random
import re
from email.utils import formatdate

from tidings_hub import runtime

_STATUS_LINES = {
    200: b"200 OK", 204: b"204 No Content", 400: b"400 Bad Request", 401: b"401 Unauthorized", 403: b"403 Forbidden",
    404: b"404 Not Found", 405: b"405 Method Not Allowed", 408: b"408 Request Timeout", 409: b"409 Conflict",
    413: b"413 Content Too Large", 429: b"429 Too Many Requests", 431: b"431 Request Header Fields Too Large",
    500: b"500 Internal Server Error", 503: b"503 Service Unavailable",
}  # fmt: skip
CLOSE = b"Connection: close\r\n"
JSON = b"application/json"
TEXT = b"text/plain; charset=UTF-8"
_RETRY_AFTER_MAX_S = 10
# RFC 9110 section 5.6.2, `token`.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_random = random.Random()  # noqa: S311 - spreads load; no secret depends on it
_date: tuple[int, bytes] = (0, b"")


def date_line() -> bytes:
    """Return the Date header line, rendered once a second (RFC 9110 section 6.6.1)."""
    global _date  # noqa: PLW0603 - one cached line per process
    second = int(runtime.unix_s())
    if _date[0] != second:
        _date = second, b"Date: %b\r\n" % formatdate(second, usegmt=True).encode()
    return _date[1]


def retry_after_line() -> bytes:
    """Render a Retry-After line (RFC 9110 section 10.2.3). It is random, so that refused clients spread out."""
    return b"Retry-After: %d\r\n" % _random.randint(1, _RETRY_AFTER_MAX_S)


def date_line_of(response: bytes) -> bytes:
    """Return the Date header line of a response of `render`."""
    start = response.index(b"\r\nDate: ") + 2
    return response[start : response.index(b"\r\n", start) + 2]


def render(
    status: int, body: bytes, *, content_type: bytes = TEXT, extra_headers: bytes = b"", date: bytes = b""
) -> bytes:
    """Render a complete response. `extra_headers`: further header lines, each with its CR LF. `date`: the Date line."""
    if status == 204:  # RFC 9110 section 8.6: no Content-Length
        return b"HTTP/1.1 204 No Content\r\n%b%b\r\n" % (date_line(), extra_headers)
    return (
        b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\nCache-Control: no-store\r\n"
        b"X-Content-Type-Options: nosniff\r\n%b%b\r\n%b"
    ) % (
        _STATUS_LINES.get(status) or b"%d Error" % status,
        content_type,
        len(body),
        date or date_line(),
        extra_headers,
        body,
    )


def cors_lines(origin: str | None) -> bytes:
    """Render the header lines that allow a page of `origin` to read the response."""
    if origin is None:
        return b""
    return (
        b"Access-Control-Allow-Origin: %b\r\nAccess-Control-Allow-Credentials: true\r\nVary: Origin\r\n"
        % origin.encode("latin-1")
    )


def preflight_lines(requested_headers: str | None) -> bytes:
    """Render what a cross-origin request may contain (Fetch standard, CORS preflight).

    `requested_headers`: the value of Access-Control-Request-Headers.
    """
    requested = [name.strip(" \t") for name in (requested_headers or "").split(",")]
    names = ", ".join(filter(_HEADER_NAME.fullmatch, requested)) or "content-type"
    return (
        b"Access-Control-Allow-Methods: GET, POST, PUT, DELETE, OPTIONS\r\nAccess-Control-Allow-Headers: %b\r\n"
        b"Access-Control-Max-Age: 600\r\n" % names.encode()
    )


def event_stream_head(extra_headers: bytes, *, is_chunked: bool) -> bytes:
    """Render the head of an event stream (WHATWG HTML section 9.2), which ends with its connection.

    `is_chunked`: the client speaks HTTP/1.1 and gets the stream in chunks.
    """
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-store\r\n"
        b"X-Accel-Buffering: no\r\nX-Content-Type-Options: nosniff\r\n%b%b%b%b\r\n"
    ) % (date_line(), CLOSE, b"Transfer-Encoding: chunked\r\n" if is_chunked else b"", extra_headers)
