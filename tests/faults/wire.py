"""HTTP/1.1 and WebSocket clients as asyncio protocols, cheap enough for hundreds on half a core."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

# RFC 6455 section 5.3: clients mask their frames. A constant mask is sufficient in a test.
_MASK = b"\x5a\xc3\x17\x8e"
_UPGRADE = (
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: %b\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10


def frame(opcode: int, payload: bytes) -> bytes:
    """Encode one masked frame."""
    size = len(payload)
    head = bytes([0x80 | opcode, 0x80 | size]) if size < 126 else bytes([0x80 | opcode, 0xFE]) + size.to_bytes(2)
    mask = (_MASK * (size // 4 + 1))[:size]
    return head + _MASK + (int.from_bytes(payload) ^ int.from_bytes(mask)).to_bytes(size)


class WebSocketProtocol(asyncio.Protocol):
    """One WebSocket. `on_message` gets each text message; `on_closed` gets the reason, once."""

    def __init__(self, host: str, on_message: Callable[[bytes], None], on_closed: Callable[[str], None]) -> None:
        self._host = host.encode()
        self._on_message = on_message
        self._on_closed = on_closed
        self._open = False
        self._unparsed = b""
        self._close_reason = "cut"
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(_UPGRADE % self._host)

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_closed(self._close_reason)

    def send(self, text: bytes) -> None:
        """Send one text message."""
        self._write(frame(_TEXT, text))

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        """Close the connection without a close frame."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        data = self._unparsed + data
        at = 0
        if not self._open:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._unparsed = data
                return
            status = data[9:12]
            if status != b"101":
                self._close_reason = f"status {status.decode()}"
                self.abort()
                return
            self._open = True
            at = end + 4
        while (parsed := _frame(data, at)) is not None:
            opcode, payload, at = parsed
            if opcode == _TEXT:
                self._on_message(payload)
            elif opcode == _PING:
                self._write(frame(_PONG, payload))
            elif opcode == _CLOSE:
                self._close_reason = f"close {int.from_bytes(payload[:2])}"
                self.abort()
        self._unparsed = data[at:]


def _frame(data: bytes, at: int) -> tuple[int, bytes, int] | None:
    """Opcode, payload and end of the frame at `at`; None if it is incomplete."""
    if len(data) - at < 2:
        return None
    size, start = data[at + 1], at + 2
    if size == 126:
        size, start = int.from_bytes(data[at + 2 : at + 4]), at + 4
    elif size == 127:
        size, start = int.from_bytes(data[at + 2 : at + 10]), at + 10
    end = start + size
    return None if end > len(data) else (data[at] & 15, data[start:end], end)


class HttpProtocol(asyncio.Protocol):
    """One HTTP connection with one request at a time.

    `on_response` gets status and body. `on_failure` is called if the connection ends before the response.
    `is_unusable`: the connection is closed or will be. The server may close an idle one at any time.
    """

    def __init__(self, host: str, on_response: Callable[[int, bytes], None], on_failure: Callable[[str], None]) -> None:
        self._host = host.encode()
        self._on_response = on_response
        self._on_failure = on_failure
        self._unparsed = b""
        self._transport: asyncio.Transport | None = None
        self._busy = False
        self.is_unusable = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_unusable = True
        if self._busy:
            self._on_failure("cut")

    def request(self, method: bytes, path: bytes, body: bytes = b"") -> None:
        """Send one request."""
        assert self._transport is not None
        self._busy = True
        size = b"Content-Length: %d\r\n" % len(body) if body else b""
        self._transport.write(b"%b %b HTTP/1.1\r\nHost: %b\r\n%b\r\n%b" % (method, path, self._host, size, body))

    def abort(self) -> None:
        """Close the connection. `on_failure` is not called."""
        self.is_unusable = True
        self._busy = False
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        data = self._unparsed + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._unparsed = data
            return
        head = data[:end].lower()
        position = head.find(b"content-length:")
        size = int(head[position + 15 :].partition(b"\r\n")[0]) if position >= 0 else 0
        stop = end + 4 + size
        if len(data) < stop:
            self._unparsed = data
            return
        self._unparsed = data[stop:]
        self._busy = False
        if b"connection: close" in head:
            self.is_unusable = True
        self._on_response(int(data[9:12]), data[end + 4 : stop])
