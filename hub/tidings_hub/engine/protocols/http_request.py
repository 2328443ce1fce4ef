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
from tidings_hub.engine.protocols.http_host import hostname

if TYPE_CHECKING:
    from collections.abc import Mapping

HEAD_END = b"\r\n\r\n"
_HEADERS_MAX = 100
_LENGTH = re.compile(r"[0-9]{1,15}\Z")
# If one of these headers appears twice, the hub and a proxy could each use a different one.
_SINGLE_HEADERS = frozenset({
    "host", "content-length", "transfer-encoding", "content-type", "authorization", "origin", "expect",
    "sec-websocket-key", "sec-websocket-version", "last-event-id",
})  # fmt: skip
# WSGI maps `_` and `-` to the same name. A header that WSGI would confuse with one of these is always rejected.
_PROTECTED_HEADERS = _SINGLE_HEADERS | {
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "upgrade",
    "connection",
    "cookie",
    "x-api-key",
    "forwarded",
    "x-real-ip",
}

# The line of a GET or POST request. Its target has the form of RFC 9112 section 3.2.1, without a fragment.
_REQUEST_LINE = re.compile(rb"(GET|POST) (/[!-\"$-~]*) HTTP/1\.1\r\n")
# Not cached: longer heads, heads with a secret, and WebSocket handshakes, of which no two are equal.
_CACHED_MAX_BYTES = 2048
_SECRET_HEADER = b"uthorization:"
_UNIQUE_HEADER = b"WebSocket-Key:"


@dataclass(slots=True)
class RequestHead:
    """The head of one request. Header names are in lower case; `length` is None for a chunked body.

    `lines`: the header lines as received, if the parsed headers are cached for further requests; else empty.
    `query_fields`: the result of `parse_query`, after its first call.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    keep_alive: bool
    length: int | None
    version: str
    lines: bytes = b""
    query_fields: dict[str, str] | None = None

    @property
    def has_body(self) -> bool:
        """Whether bytes follow the head."""
        return self.length != 0

    @property
    def wants_websocket(self) -> bool:
        """Whether the client requests a WebSocket (RFC 6455 section 4.1). Other upgrades, such as h2c, are ignored.

        RFC 9110 section 7.8: a server may ignore an upgrade, and must ignore one of HTTP/1.0.
        """
        headers = self.headers
        return (
            "upgrade" in headers
            and (self.method, self.version) == ("GET", "1.1")
            and _lists(headers["upgrade"], "websocket")
            and _lists(headers.get("connection", ""), "upgrade")
        )


def _lists(value: str, token: str) -> bool:
    """Whether a comma-separated header names `token`, in upper or lower case."""
    value = value.lower()
    return value == token or token in (item.strip(" \t") for item in value.split(","))


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


def stays_incomplete(head: bytes, data: bytes) -> bool:
    """Whether `head`, which `check_partial` accepted, is still incomplete and acceptable with `data` behind it.

    Only `data` is read. So a head that arrives byte by byte costs no more than its packets.
    """
    if HEAD_END in head[1 - len(HEAD_END) :] + data:
        return False
    try:
        check_partial(head[-1:] + data if head.endswith(b"\r") else data)
    except BadRequest:
        return False
    return True


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

    Polls and POSTs of sessions repeat the same header lines, also across clients with the same browser. So parsed
    headers are cached by their bytes. Do not modify `headers` of the result.

    Raises:
        BadRequest: the request is not one that every strict server reads in the same way.
    """
    line = _REQUEST_LINE.match(data)
    if line is None or len(data) - line.end() > _CACHED_MAX_BYTES or _SECRET_HEADER in data or _UNIQUE_HEADER in data:
        return _parse(data)
    path, _, query = line[2].decode("ascii").partition("?")
    if line[1] == b"POST":
        cached = _parse_cached_post(data[line.end() :])
        return RequestHead("POST", path, query, cached.headers, cached.keep_alive, cached.length, "1.1")
    cached = _parse_cached(data[line.end() :])
    return RequestHead("GET", path, query, cached.headers, cached.keep_alive, cached.length, "1.1", cached.lines)


@lru_cache(maxsize=512)
def _parse_cached(lines: bytes) -> RequestHead:
    head = _parse(b"GET / HTTP/1.1\r\n" + lines)
    head.lines = lines
    return head


# A cache of its own: the many values of Content-Length must not displace the heads of polls.
@lru_cache(maxsize=512)
def _parse_cached_post(lines: bytes) -> RequestHead:
    return _parse(b"POST / HTTP/1.1\r\n" + lines)


def _parse(data: bytes) -> RequestHead:
    _check_lines(data)
    if b"\r\n " in data or b"\r\n\t" in data:
        raise BadRequest("A header must not continue on the next line.")
    collector = _Collector()
    parser = httptools.HttpRequestParser(collector)
    try:
        # An upgrade is not an error here: `RequestHead.wants_websocket` decides about it.
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
    path, query, authority = _split_target(collector.url)
    if authority:
        # RFC 9112 section 3.2.2: the host of an absolute target replaces the Host header.
        headers["host"] = authority
    keep_alive = version == "1.1" and "close" not in headers.get("connection", "").lower()
    length = _body_length(headers, version)
    head = RequestHead(parser.get_method().decode(), path, query, headers, keep_alive, length, version)
    if head.has_body and head.wants_websocket:
        raise BadRequest("A WebSocket handshake must not have a body.")
    return head


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


def _split_target(url: bytes) -> tuple[str, str, str]:
    """Return path, query and authority. The authority is empty unless the target is absolute."""
    try:
        text = url.decode("ascii")
    except UnicodeDecodeError:
        raise BadRequest("The target has bytes outside ASCII.") from None
    authority = ""
    scheme, separator, rest = text.partition("://")
    if separator and scheme.lower() in ("http", "https"):
        end = min((at for at in (rest.find(sign) for sign in "/?#") if at >= 0), default=len(rest))
        authority, text = rest[:end], rest[end:]
        if not hostname(authority):
            raise BadRequest("The target names no valid host.")
        if not text.startswith("/"):
            text = f"/{text}"
    if not text.startswith("/"):
        raise BadRequest("The target is not a path.")
    path, _, query = text.partition("#")[0].partition("?")
    return path, query, authority


def _body_length(headers: Mapping[str, str], version: str) -> int | None:
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if length is not None or version == "1.0":
            raise BadRequest("Content-Length and Transfer-Encoding exclude each other.")
        if coding.lower() != "chunked":
            raise BadRequest("The only supported transfer coding is chunked.")
        return None
    if length is None:
        return 0
    if not _LENGTH.match(length):
        raise BadRequest("Content-Length is not a number.")
    return int(length)
