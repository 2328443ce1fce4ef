"""HTTP/1.1 and WebSocket as a client says them, on asyncio's protocols: cheap enough for hundreds on half a core."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

# RFC 6455 section 5.3: what a client sends is masked; the mask hides nothing here.
_MASK = b"\x5a\xc3\x17\x8e"
_UPGRADE = (
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: %b\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10


def frame(opcode: int, payload: bytes) -> bytes:
    """One masked frame."""
    size = len(payload)
    head = bytes([0x80 | opcode, 0x80 | size]) if size < 126 else bytes([0x80 | opcode, 0xFE]) + size.to_bytes(2)
    mask = (_MASK * (size // 4 + 1))[:size]
    return head + _MASK + (int.from_bytes(payload) ^ int.from_bytes(mask)).to_bytes(size)


class Socket(asyncio.Protocol):
    """One WebSocket; `heard` gets each text message, `ended` why it is over, once."""

    def __init__(self, host: str, heard: Callable[[bytes], None], ended: Callable[[str], None]) -> None:
        self._host = host.encode()
        self._heard = heard
        self._ended = ended
        self._open = False
        self._rest = b""
        self._why = "cut"
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(_UPGRADE % self._host)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended(self._why)

    def send(self, text: bytes) -> None:
        """One text message."""
        self._write(frame(_TEXT, text))

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        """End it without a word."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        at = 0
        if not self._open:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._rest = data
                return
            status = data[9:12]
            if status != b"101":
                self._why = f"status {status.decode()}"
                self.abort()
                return
            self._open = True
            at = end + 4
        while (parsed := _frame(data, at)) is not None:
            opcode, payload, at = parsed
            if opcode == _TEXT:
                self._heard(payload)
            elif opcode == _PING:
                self._write(frame(_PONG, payload))
            elif opcode == _CLOSE:
                self._why = f"close {int.from_bytes(payload[:2])}"
                self.abort()
        self._rest = data[at:]


def _frame(data: bytes, at: int) -> tuple[int, bytes, int] | None:
    """Opcode and payload of the frame at a place, and where it ends; None when it is not complete."""
    if len(data) - at < 2:
        return None
    size, start = data[at + 1], at + 2
    if size == 126:
        size, start = int.from_bytes(data[at + 2 : at + 4]), at + 4
    elif size == 127:
        size, start = int.from_bytes(data[at + 2 : at + 10]), at + 10
    end = start + size
    return None if end > len(data) else (data[at] & 15, data[start:end], end)


class Requests(asyncio.Protocol):
    """One HTTP connection with one request at a time; `answered` gets status and body, `failed` that none comes.

    `over`: it cannot be used (again); an idle connection may be closed at any time.
    """

    def __init__(self, host: str, answered: Callable[[int, bytes], None], failed: Callable[[str], None]) -> None:
        self._host = host.encode()
        self._answered = answered
        self._failed = failed
        self._rest = b""
        self._transport: asyncio.Transport | None = None
        self._busy = False
        self.over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.over = True
        if self._busy:
            self._failed("cut")

    def ask(self, method: bytes, path: bytes, body: bytes = b"") -> None:
        """Send one request."""
        assert self._transport is not None
        self._busy = True
        size = b"Content-Length: %d\r\n" % len(body) if body else b""
        self._transport.write(b"%b %b HTTP/1.1\r\nHost: %b\r\n%b\r\n%b" % (method, path, self._host, size, body))

    def abort(self) -> None:
        """End it without a word."""
        self.over = True
        self._busy = False
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._rest = data
            return
        head = data[:end].lower()
        start = head.find(b"content-length:")
        size = int(head[start + 15 :].partition(b"\r\n")[0]) if start >= 0 else 0
        stop = end + 4 + size
        if len(data) < stop:
            self._rest = data
            return
        self._rest = data[stop:]
        self._busy = False
        if b"connection: close" in head:
            self.over = True
        self._answered(int(data[9:12]), data[end + 4 : stop])
