"""The body of an HTTP/1.1 request, with a length or chunked, without I/O. Source: RFC 9112 sections 6 and 7."""

from __future__ import annotations

import re

from tidings.errors import BadRequest, TooLarge

_CHUNK_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[^\r\n]{0,256})?\r\n")
_CHUNK_LINE_MAX = 300
_TRAILERS_MAX = 4096
# Chunks of fewer bytes cost more to decode than to send. Programs that write a body line by line send some of them.
_SMALL_CHUNK_BYTES = 64
_SMALL_CHUNKS_MAX = 1_000


class RequestBody:
    """Collects the body of one request, up to `max_bytes`. A `length` of None means a chunked body.

    Raises (from every method):
        TooLarge: the body, its declared length or a declared chunk exceeds `max_bytes`.
        BadRequest: the chunks do not follow RFC 9112 section 7.1.
    """

    __slots__ = ("_chunk_left", "_data", "_length", "_max_bytes", "_small_chunks", "_state", "_trailer_bytes")
    _SIZE, _CHUNK_DATA, _CHUNK_END, _TRAILER, _DONE = range(5)

    def __init__(self, length: int | None, max_bytes: int) -> None:
        if length is not None and length > max_bytes:
            raise TooLarge(f"The body has {length} bytes; the limit is {max_bytes}.")
        self._length = length
        self._max_bytes = max_bytes
        self._data = bytearray()
        self._state = self._SIZE
        self._chunk_left = 0
        self._small_chunks = 0
        self._trailer_bytes = 0

    @property
    def size(self) -> int:
        """Number of bytes collected so far."""
        return len(self._data)

    @property
    def data(self) -> bytes:
        """The bytes collected so far."""
        return bytes(self._data)

    def feed(self, data: bytes) -> bytes | None:
        """Consume the part of `data` that belongs to the body and return the rest.

        None: all of `data` was consumed and the body is not complete. For a chunked body, the rest can also be an
        incomplete line: pass it again, followed by the next bytes.
        """
        if self._length is not None:
            missing = self._length - len(self._data)
            self._data += data[:missing]
            return data[missing:] if len(data) >= missing else None
        return self._feed_chunks(data)

    @property
    def done(self) -> bool:
        """Whether the body is complete."""
        return self._state == self._DONE if self._length is None else len(self._data) == self._length

    def _feed_chunks(self, data: bytes) -> bytes:
        at = 0
        while self._state != self._DONE:
            end = self._read_line(data, at) if self._state != self._CHUNK_DATA else self._read_chunk(data, at)
            if end is None:
                break
            at = end
        return data[at:]

    def _read_chunk(self, data: bytes, at: int) -> int | None:
        part = data[at : at + self._chunk_left]
        if not part:
            return None
        self._data += part
        self._chunk_left -= len(part)
        if not self._chunk_left:
            self._state = self._CHUNK_END
        return at + len(part)

    def _read_line(self, data: bytes, at: int) -> int | None:
        end = data.find(b"\n", at) + 1
        if not end:
            if len(data) - at > _CHUNK_LINE_MAX:
                raise BadRequest("A chunk size line or trailer line is too long.")
            return None
        line = data[at:end]
        if self._state == self._SIZE:
            self._on_size_line(line)
        elif self._state == self._CHUNK_END:
            if line != b"\r\n":
                raise BadRequest("A chunk is longer than its declared size.")
            self._state = self._SIZE
        elif line == b"\r\n":
            self._state = self._DONE
        else:
            # Trailers are read up to a limit and discarded: no trailer may replace a header (CVE-2025-58068).
            self._trailer_bytes += len(line)
            if self._trailer_bytes > _TRAILERS_MAX or not line.endswith(b"\r\n"):
                raise BadRequest("The trailers are too long, or one does not end with CR LF.")
        return end

    def _on_size_line(self, line: bytes) -> None:
        match = _CHUNK_SIZE_LINE.fullmatch(line)
        if match is None:
            raise BadRequest("A chunk size line is malformed.")
        size = int(match[1], 16)
        if len(self._data) + size > self._max_bytes:
            raise TooLarge(f"The body has more than {self._max_bytes} bytes.")
        self._small_chunks += size < _SMALL_CHUNK_BYTES
        if self._small_chunks > _SMALL_CHUNKS_MAX:
            raise BadRequest(f"More than {_SMALL_CHUNKS_MAX} chunks of fewer than {_SMALL_CHUNK_BYTES} bytes.")
        self._chunk_left = size
        self._state = self._CHUNK_DATA if size else self._TRAILER
