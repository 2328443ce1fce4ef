"""HTTP/1.1 requests and answers without I/O: strict heads, bodies with limits.

Heads are read by httptools (llhttp). What llhttp tolerates and a proxy in front may read
differently is refused here first: request smuggling lives in such differences (threats: CVE-2025-58068).
Source: RFC 9112.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from typing import TYPE_CHECKING

import httptools

from tidings.errors import BadRequest, TooLarge
from tidings_hub import runtime

if TYPE_CHECKING:
    from collections.abc import Mapping

END = b"\r\n\r\n"
_HEADERS_MAX = 100
_LENGTH = re.compile(r"[0-9]{1,15}\Z")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[^\r\n]{0,256})?\r\n")
_CHUNK_LINE_MAX = 300
_TRAILERS_MAX = 4096
# Said twice, each of these could mean one thing to us and another to a proxy.
_ONCE = frozenset({
    "host", "content-length", "transfer-encoding", "content-type", "authorization", "origin", "upgrade", "expect",
    "sec-websocket-key", "sec-websocket-version", "x-forwarded-proto", "x-forwarded-host", "last-event-id",
})  # fmt: skip
# A name with an underscore that WSGI would confuse with one of these is refused even when the real one is missing.
_GUARDED = _ONCE | {"x-forwarded-for", "connection", "cookie", "x-api-key", "forwarded", "x-real-ip"}


# A target in the form of RFC 9112 section 3.2.1, without a fragment.
_POLL_LINE = re.compile(rb"GET (/[!-\"$-~]*) HTTP/1\.1\r\n")
_ANY_LINE = b"GET / HTTP/1.1\r\n"
# Longer heads, and those with a secret in them, are not kept.
_SHARED_MAX_BYTES = 2048
_SECRET = b"uthorization:"


@dataclass(slots=True)
class Head:
    """The head of one request. Header names are in lower case; `length` is None for a chunked body.

    `lines` are the header lines as they came, where they are kept for the next request that says the same.
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
        """Whether the client asks for another protocol."""
        return "upgrade" in self.headers


class _Collector:
    """What httptools calls back."""

    __slots__ = ("headers", "url")

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))


def check_partial(data: bytes) -> None:
    """Refuse a head that is not complete and can never become right.

    Raises:
        BadRequest: a line that ends without CR LF.
    """
    # The last byte may be the CR of a CR LF that is under way.
    _check_lines(data[:-1] if data.endswith(b"\r") else data)


def _check_lines(data: bytes) -> None:
    lines = data.count(b"\r\n")
    if data.count(b"\n") != lines or data.count(b"\r") != lines:
        raise BadRequest("Lines end with CR LF.")


def parse_head(data: bytes) -> Head:
    """The request whose head is `data`, the empty line included.

    The headers of polls are the same bytes again and again, also among the clients of one browser: what they
    say is kept for the next one. Nobody may change a head's `headers`.

    Raises:
        BadRequest: not a request that every strict server reads the same way.
    """
    line = _POLL_LINE.match(data)
    if line is None or len(data) - line.end() > _SHARED_MAX_BYTES or _SECRET in data:
        return _parse(data)
    path, _, query = line[1].decode("ascii").partition("?")
    shared = _shared(data[line.end() :])
    return Head("GET", path, query, shared.headers, shared.keep_alive, shared.length, "1.1", shared.lines)


@lru_cache(maxsize=512)
def _shared(lines: bytes) -> Head:
    head = _parse(_ANY_LINE + lines)
    head.lines = lines
    return head


def _parse(data: bytes) -> Head:
    _check_lines(data)
    if b"\r\n " in data or b"\r\n\t" in data:
        raise BadRequest("A header must not go on in the next line.")
    seen = _Collector()
    parser = httptools.HttpRequestParser(seen)
    try:
        # An upgrade is no error: what comes of it is decided by whoever answers.
        with contextlib.suppress(httptools.HttpParserUpgrade):
            parser.feed_data(data)
    except httptools.HttpParserError:
        raise BadRequest("Not an HTTP/1.1 request.") from None
    version = parser.get_http_version()
    if version not in ("1.1", "1.0") or not seen.url:
        raise BadRequest("Not an HTTP/1.1 request.")
    headers = _headers(seen.headers)
    if version == "1.1" and "host" not in headers:
        raise BadRequest("Host is missing.")
    path, query = _target(seen.url)
    tokens = headers.get("connection", "").lower()
    keep_alive = version == "1.1" and "close" not in tokens
    return Head(parser.get_method().decode(), path, query, headers, keep_alive, _length(headers, version), version)


def _headers(pairs: list[tuple[bytes, bytes]]) -> dict[str, str]:
    if len(pairs) > _HEADERS_MAX:
        raise BadRequest(f"More than {_HEADERS_MAX} headers.")
    headers: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1").strip(" \t")
        if name in headers:
            if name in _ONCE:
                raise BadRequest("A header that may come once came twice.")
            headers[name] = f"{headers[name]}{';' if name == 'cookie' else ','} {value}"
        else:
            headers[name] = value
    for name in [name for name in headers if "_" in name]:
        meant = name.replace("_", "-")
        if meant in headers or meant in _GUARDED:
            raise BadRequest("A header with an underscore stands for another one.")
        # WSGI cannot tell it from the name with dashes; eventlet.wsgi and nginx drop it, too.
        del headers[name]
    return headers


def _target(url: bytes) -> tuple[str, str]:
    try:
        text = url.decode("ascii")
    except UnicodeDecodeError:
        raise BadRequest("A target with bytes outside ASCII.") from None
    if text.startswith(("http://", "https://")):
        _, _, rest = text.partition("://")
        slash = rest.find("/")
        text = rest[slash:] if slash >= 0 else "/"
    if not text.startswith("/"):
        raise BadRequest("The target is not a path.")
    path, _, query = text.partition("?")
    return path, query.partition("#")[0]


def _length(headers: Mapping[str, str], version: str) -> int | None:
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if length is not None or version == "1.0":
            raise BadRequest("Content-Length and Transfer-Encoding together.")
        if coding.lower() != "chunked":
            raise BadRequest("The only transfer coding is chunked.")
        if "upgrade" in headers:
            raise BadRequest("An upgrade has no body.")
        return None
    if length is None:
        return 0
    if not _LENGTH.match(length):
        raise BadRequest("Content-Length is not a number.")
    if int(length) and "upgrade" in headers:
        raise BadRequest("An upgrade has no body.")
    return int(length)


class Body:
    """Collects one request's body, up to `max_bytes`.

    Raises (from every method):
        TooLarge: the body is, or says that it is, longer than `max_bytes`.
        BadRequest: chunks that are not of RFC 9112 section 7.1.
    """

    __slots__ = ("_chunk_left", "_data", "_length", "_max_bytes", "_state", "_trailer_bytes")
    _SIZE, _CHUNK_DATA, _CHUNK_END, _TRAILER, _DONE = range(5)

    def __init__(self, length: int | None, max_bytes: int) -> None:
        if length is not None and length > max_bytes:
            raise TooLarge(f"A body of {length} bytes; the limit is {max_bytes}.")
        self._length = length
        self._max_bytes = max_bytes
        self._data = bytearray()
        self._state = self._SIZE
        self._chunk_left = 0
        self._trailer_bytes = 0

    @property
    def data(self) -> bytes:
        """What was collected."""
        return bytes(self._data)

    def feed(self, data: bytes) -> bytes | None:
        """Take what belongs to the body. None: all of `data`, and more is missing; else what follows the body.

        For a chunked body the rest may be an unfinished line: the caller gives it again with what comes next.
        """
        if self._length is not None:
            missing = self._length - len(self._data)
            self._data += data[:missing]
            return data[missing:] if len(data) >= missing else None
        return self._chunks(data)

    @property
    def done(self) -> bool:
        """Whether the body is complete."""
        return self._state == self._DONE if self._length is None else len(self._data) == self._length

    def _chunks(self, data: bytes) -> bytes:
        at = 0
        while self._state != self._DONE:
            step = self._line(data, at) if self._state != self._CHUNK_DATA else self._chunk(data, at)
            if step is None:
                break
            at = step
        return data[at:]

    def _chunk(self, data: bytes, at: int) -> int | None:
        taken = data[at : at + self._chunk_left]
        if not taken:
            return None
        self._data += taken
        self._chunk_left -= len(taken)
        if not self._chunk_left:
            self._state = self._CHUNK_END
        return at + len(taken)

    def _line(self, data: bytes, at: int) -> int | None:
        end = data.find(b"\n", at) + 1
        if not end:
            if len(data) - at > _CHUNK_LINE_MAX:
                raise BadRequest("A chunk's line is too long.")
            return None
        line = data[at:end]
        if self._state == self._SIZE:
            self._size_line(line)
        elif self._state == self._CHUNK_END:
            if line != b"\r\n":
                raise BadRequest("A chunk is longer than it says.")
            self._state = self._SIZE
        elif line == b"\r\n":
            self._state = self._DONE
        else:
            # Trailers carry nothing that we would believe (CVE-2025-58068): read, bounded, forgotten.
            self._trailer_bytes += len(line)
            if self._trailer_bytes > _TRAILERS_MAX or not line.endswith(b"\r\n"):
                raise BadRequest("Trailers that are too long or not lines.")
        return end

    def _size_line(self, line: bytes) -> None:
        match = _CHUNK.fullmatch(line)
        if match is None:
            raise BadRequest("Not a chunk's size.")
        size = int(match[1], 16)
        if len(self._data) + size > self._max_bytes:
            raise TooLarge(f"A body of more than {self._max_bytes} bytes.")
        self._chunk_left = size
        self._state = self._CHUNK_DATA if size else self._TRAILER


_REASONS = {
    200: "OK", 204: "No Content", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 408: "Request Timeout", 409: "Conflict", 413: "Content Too Large",
    429: "Too Many Requests", 431: "Request Header Fields Too Large",
    500: "Internal Server Error", 503: "Service Unavailable",
}  # fmt: skip
CLOSE = b"Connection: close\r\n"
JSON = b"application/json"
TEXT = b"text/plain; charset=UTF-8"
_date: tuple[int, bytes] = (0, b"")


def date_line() -> bytes:
    """The Date header, made once a second (RFC 9110 section 6.6.1)."""
    global _date  # noqa: PLW0603 - one cached line per process
    second = int(runtime.unix_s())
    if _date[0] != second:
        _date = second, b"Date: %b\r\n" % formatdate(second, usegmt=True).encode()
    return _date[1]


def response(status: int, body: bytes, *, kind: bytes = TEXT, extra: bytes = b"") -> bytes:
    """A complete answer; `extra` are further header lines, each with its line end."""
    if status == 204:  # RFC 9110 section 8.6: no Content-Length
        return b"HTTP/1.1 204 No Content\r\n%b%b\r\n" % (date_line(), extra)
    return (
        b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nContent-Length: %d\r\nCache-Control: no-store\r\n"
        b"X-Content-Type-Options: nosniff\r\n%b%b\r\n%b"
    ) % (status, _REASONS.get(status, "Error").encode(), kind, len(body), date_line(), extra, body)


def cors_lines(origin: str | None) -> bytes:
    """The lines that let a page of an allowed origin read the answer."""
    if origin is None:
        return b""
    return (
        b"Access-Control-Allow-Origin: %b\r\nAccess-Control-Allow-Credentials: true\r\nVary: Origin\r\n"
        % origin.encode("latin-1")
    )


def preflight_lines(asked: str | None) -> bytes:
    """What a cross-origin request may contain (Fetch standard, CORS preflight)."""
    names = asked if asked and re.fullmatch(r"[A-Za-z0-9, -]{1,300}", asked) else "content-type"
    return (
        b"Access-Control-Allow-Methods: GET, POST, OPTIONS\r\nAccess-Control-Allow-Headers: %b\r\n"
        b"Access-Control-Max-Age: 600\r\n" % names.encode()
    )
