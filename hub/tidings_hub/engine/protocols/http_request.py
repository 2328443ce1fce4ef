"""Parse the head of an HTTP/1.1 request, without I/O.

httptools (llhttp) does the parsing. Everything that llhttp tolerates but a proxy may read differently is rejected
before that: such differences make request smuggling possible (CVE-2025-58068 is an example). Source: RFC 9112.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import httptools

from tidings.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

HEAD_END = b"\r\n\r\n"
_HEADERS_MAX = 100
_LENGTH = re.compile(r"[0-9]{1,15}\Z")
# If one of these headers appears twice, the hub and a proxy could each use a different one.
_SINGLE_HEADERS = frozenset({
    "host", "content-length", "transfer-encoding", "content-type", "authorization", "origin", "upgrade", "expect",
    "sec-websocket-key", "sec-websocket-version", "x-forwarded-proto", "x-forwarded-host", "last-event-id",
})  # fmt: skip
# WSGI maps `_` and `-` to the same name. A header that WSGI would confuse with one of these is always rejected.
_PROTECTED_HEADERS = _SINGLE_HEADERS | {
    "x-forwarded-for",
    "connection",
    "cookie",
    "x-api-key",
    "forwarded",
    "x-real-ip",
}

# A GET request line. Its target has the form of RFC 9112 section 3.2.1, without a fragment.
_GET_LINE = re.compile(rb"GET (/[!-\"$-~]*) HTTP/1\.1\r\n")
_PLACEHOLDER_LINE = b"GET / HTTP/1.1\r\n"
# Longer heads, and heads that contain a secret, are not cached.
_CACHED_MAX_BYTES = 2048
_SECRET_HEADER = b"uthorization:"


@dataclass(slots=True)
class RequestHead:
    """The head of one request. Header names are in lower case; `length` is None for a chunked body.

    `lines`: the header lines as received, if the parsed headers are cached for further requests; else empty.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    keep_alive: bool
    length: int | None
    version: str
    lines: bytes = b""

    @property
    def has_body(self) -> bool:
        """Whether bytes follow the head."""
        return self.length != 0

    @property
    def wants_upgrade(self) -> bool:
        """Whether the client requests another protocol."""
        return "upgrade" in self.headers


class _Collector:
    """The callbacks of httptools: collects the target and the headers."""

    __slots__ = ("headers", "url")

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))


def check_partial(data: bytes) -> None:
    """Reject an incomplete head that cannot become valid.

    Raises:
        BadRequest: a line that ends without CR LF.
    """
    # The last byte may be the CR of a CR LF whose LF has not arrived yet.
    _check_lines(data[:-1] if data.endswith(b"\r") else data)


def _check_lines(data: bytes) -> None:
    lines = data.count(b"\r\n")
    if data.count(b"\n") != lines or data.count(b"\r") != lines:
        raise BadRequest("Lines end with CR LF.")


def parse_head(data: bytes) -> RequestHead:
    """Parse `data`, a complete head with its final empty line.

    Polls repeat the same header lines, also across clients with the same browser. So parsed headers are cached by
    their bytes. Do not modify `headers` of the result.

    Raises:
        BadRequest: the request is not one that every strict server reads in the same way.
    """
    line = _GET_LINE.match(data)
    if line is None or len(data) - line.end() > _CACHED_MAX_BYTES or _SECRET_HEADER in data:
        return _parse(data)
    path, _, query = line[1].decode("ascii").partition("?")
    cached = _parse_cached(data[line.end() :])
    return RequestHead("GET", path, query, cached.headers, cached.keep_alive, cached.length, "1.1", cached.lines)


@lru_cache(maxsize=512)
def _parse_cached(lines: bytes) -> RequestHead:
    head = _parse(_PLACEHOLDER_LINE + lines)
    head.lines = lines
    return head


def _parse(data: bytes) -> RequestHead:
    _check_lines(data)
    if b"\r\n " in data or b"\r\n\t" in data:
        raise BadRequest("A header must not continue on the next line.")
    collector = _Collector()
    parser = httptools.HttpRequestParser(collector)
    try:
        # An upgrade is not an error here: the request handler decides about it.
        with contextlib.suppress(httptools.HttpParserUpgrade):
            parser.feed_data(data)
    except httptools.HttpParserError:
        raise BadRequest("Not an HTTP/1.1 request.") from None
    version = parser.get_http_version()
    if version not in ("1.1", "1.0") or not collector.url:
        raise BadRequest("Not an HTTP/1.1 request.")
    headers = _merge_headers(collector.headers)
    if version == "1.1" and "host" not in headers:
        raise BadRequest("Host is missing.")
    path, query = _split_target(collector.url)
    keep_alive = version == "1.1" and "close" not in headers.get("connection", "").lower()
    length = _body_length(headers, version)
    return RequestHead(parser.get_method().decode(), path, query, headers, keep_alive, length, version)


def _merge_headers(pairs: list[tuple[bytes, bytes]]) -> dict[str, str]:
    if len(pairs) > _HEADERS_MAX:
        raise BadRequest(f"More than {_HEADERS_MAX} headers.")
    headers: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1").strip(" \t")
        if name in headers:
            if name in _SINGLE_HEADERS:
                raise BadRequest("A header that may appear once appears twice.")
            headers[name] = f"{headers[name]}{';' if name == 'cookie' else ','} {value}"
        else:
            headers[name] = value
    for name in [name for name in headers if "_" in name]:
        dashed = name.replace("_", "-")
        if dashed in headers or dashed in _PROTECTED_HEADERS:
            raise BadRequest("A header with an underscore conflicts with another header.")
        # WSGI cannot distinguish it from the name with dashes. eventlet.wsgi and nginx drop it as well.
        del headers[name]
    return headers


def _split_target(url: bytes) -> tuple[str, str]:
    try:
        text = url.decode("ascii")
    except UnicodeDecodeError:
        raise BadRequest("The target has bytes outside ASCII.") from None
    if text.startswith(("http://", "https://")):
        _, _, authority_and_path = text.partition("://")
        slash = authority_and_path.find("/")
        text = authority_and_path[slash:] if slash >= 0 else "/"
    if not text.startswith("/"):
        raise BadRequest("The target is not a path.")
    path, _, query = text.partition("?")
    return path, query.partition("#")[0]


def _body_length(headers: Mapping[str, str], version: str) -> int | None:
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if length is not None or version == "1.0":
            raise BadRequest("Content-Length and Transfer-Encoding exclude each other.")
        if coding.lower() != "chunked":
            raise BadRequest("The only supported transfer coding is chunked.")
        if "upgrade" in headers:
            raise BadRequest("An upgrade request must not have a body.")
        return None
    if length is None:
        return 0
    if not _LENGTH.match(length):
        raise BadRequest("Content-Length is not a number.")
    if int(length) and "upgrade" in headers:
        raise BadRequest("An upgrade request must not have a body.")
    return int(length)
