"""Checks the complete response of a WSGI application before it is sent on a connection that stays open.

eventlet sends what the application returns. A body that is longer than its length, or that follows HEAD, 204 or 304,
would be read as the response to the next request: behind a proxy that of another client. No I/O.
"""

from __future__ import annotations

import re
from typing import Final

from tidings.http_client.response import BadHttpResponse, ResponseReader

_HEAD_END: Final = b"\r\n\r\n"
_HEAD: Final = re.compile(
    rb"HTTP/1\.[01] ([1-5][0-9][0-9])[\t\x20-\x7e\x80-\xff]*"
    rb"(?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*)*\Z"
)
# The headers that determine where a response ends.
_FRAMING: Final = re.compile(rb"\r\n(content-length|transfer-encoding):([^\r]*)", re.IGNORECASE)
_LENGTH: Final = re.compile(rb"[0-9]{1,15}\Z")
_CHUNKED_HEAD: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_FINAL, _NO_CONTENT, _NOT_MODIFIED = 200, 204, 304


class BadWsgiResponse(ValueError):
    """A response that would end elsewhere than its head states. The text states why."""


def checked_response(raw: bytes, *, is_head_method: bool, keep_alive: bool) -> bytes:
    """The response, without a body where HTTP allows none.

    Raises:
        BadWsgiResponse: its head is malformed, or its body does not have the length that the head states.
    """
    body_start = raw.find(_HEAD_END) + len(_HEAD_END)
    status, framing = _read_head(raw[: body_start - len(_HEAD_END)])
    if status < _FINAL:
        raise BadWsgiResponse(f"the status {status} is not that of a final response")
    if is_head_method or status in {_NO_CONTENT, _NOT_MODIFIED}:
        return raw[:body_start]
    body_bytes = len(raw) - body_start
    if len(framing) > 1:
        raise BadWsgiResponse("it has more than one Content-Length or Transfer-Encoding")
    for name, padded in framing:
        value = padded.strip(b" \t")
        if name.lower() == b"transfer-encoding":
            _check_chunks(value, raw[body_start:])
        elif not _LENGTH.match(value) or int(value) != body_bytes:
            raise BadWsgiResponse(f"its Content-Length is {value[:20]!a}, and its body has {body_bytes} bytes")
    if not framing and keep_alive:
        raise BadWsgiResponse("it has no Content-Length")
    return raw


def _read_head(head: bytes) -> tuple[int, list[tuple[bytes, bytes]]]:
    """The status, and the headers that determine where the response ends."""
    match = _HEAD.match(head)
    if match is None:
        raise BadWsgiResponse("its head is malformed")
    return int(match[1]), _FRAMING.findall(head)


def _check_chunks(encoding: bytes, body: bytes) -> None:
    remaining = [_CHUNKED_HEAD, body]
    reader = ResponseReader(lambda: remaining.pop(0) if remaining else b"", body_max_bytes=len(body))
    try:
        reader.read()
    except BadHttpResponse as error:
        raise BadWsgiResponse(f"its chunks are malformed: {error}") from error
    if encoding.lower() != b"chunked" or reader.unread:
        raise BadWsgiResponse("its Transfer-Encoding is not that of its body")
