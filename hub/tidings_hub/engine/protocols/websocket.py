"""RFC 6455 without I/O: the opening handshake and the frames, from the server's side.

The server never negotiates an extension. A connection has a `FrameReader` only while a frame or message is incomplete.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from enum import IntEnum

from tidings.errors import BadPacket

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_FIN = 0x80
_RSV = 0x70
_OPCODE = 0x0F
_MASKED = 0x80
_LENGTH = 0x7F
_CONTROL = 0x08
_SHORT_MAX = 125
_MEDIUM = 126
_MEDIUM_MAX = 0xFFFF
_LENGTH_MAX = 2**63 - 1
_KEY_BYTES = 16
_MASK_BYTES = 4
_CODE_BYTES = 2
# Frames that one call of `FrameReader.feed` decodes. The caller charges them before it decodes the next ones, so a read
# full of tiny frames costs no more than this batch after the client's inbound rate is exceeded.
_BATCH_MAX = 64
# A fragment of fewer bytes costs more to decode than to send. Browsers and proxies split messages into larger ones.
_SMALL_FRAGMENT_BYTES = 1_024
# A read of fewer bytes in the middle of a frame costs as much as a packet. The first read of a frame is free: some
# clients write a frame's header and its payload separately.
SMALL_READ_BYTES = 64

NORMAL = 1000
PROTOCOL_ERROR = 1002
BAD_DATA = 1007
TOO_BIG = 1009
# RFC 6455 section 7.4 and the IANA registry; 1004-1006 and 1015 must never be on the wire.
_REGISTERED = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})
_APPLICATION = range(3000, 5000)


class Opcode(IntEnum):
    """RFC 6455 section 5.2."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


_OPCODES = frozenset(int(code) for code in Opcode)
Message = tuple[int, str | bytes]
# The first entry of a list of tokens (RFC 9110 section 5.6.2).
_TOKEN = re.compile(r"[ \t,]*([!#$%&'*+.^_`|~0-9A-Za-z-]{1,100})[ \t]*(?:,|\Z)")


class WebSocketViolation(BadPacket):
    """The client broke RFC 6455. `close_code` is for the close frame that ends the connection."""

    def __init__(self, close_code: int, message: str) -> None:
        super().__init__(message)
        self.close_code = close_code


def accept_key(key: str) -> str:
    """Return the Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455 section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


def handshake_response(headers: Mapping[str, str]) -> bytes:
    """Return the 101 response to an opening handshake with these headers (names in lower case).

    The caller has checked that the request asks for a WebSocket (`RequestHead.wants_websocket`).

    The first subprotocol that the client offers is accepted, as engine.io on Node does. If none is, a browser ends the
    connection (the option `protocols` of socket.io-client).

    Raises:
        BadPacket: the request is not a handshake of version 13.
    Source: RFC 6455 section 4.2.
    """
    if headers.get("sec-websocket-version", "").strip() != "13":
        raise BadPacket("Sec-WebSocket-Version is not 13.")
    key = headers.get("sec-websocket-key", "").strip()
    try:
        size = len(base64.b64decode(key, validate=True))
    except (binascii.Error, ValueError):
        size = 0
    if size != _KEY_BYTES:
        raise BadPacket("Sec-WebSocket-Key is not 16 bytes in base64.")
    offered = _TOKEN.match(headers.get("sec-websocket-protocol", ""))
    protocol = f"Sec-WebSocket-Protocol: {offered[1]}\r\n" if offered else ""
    response = (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_key(key)}\r\n{protocol}\r\n"
    )
    return response.encode()


def unmask(payload: bytes, mask: bytes) -> bytes:
    """Return `payload` XOR the repeated four bytes of `mask`. One big integer replaces a loop over the bytes."""
    size = len(payload)
    if not size:
        return b""
    key = (mask * (size // _MASK_BYTES + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


def frame(opcode: int, payload: bytes) -> bytes:
    """Encode one complete unmasked frame (RFC 6455 section 5.2)."""
    size = len(payload)
    if size <= _SHORT_MAX:
        return b"%c%c%b" % (_FIN | opcode, size, payload)
    if size <= _MEDIUM_MAX:
        return b"%c\x7e%b%b" % (_FIN | opcode, size.to_bytes(2, "big"), payload)
    return b"%c\x7f%b%b" % (_FIN | opcode, size.to_bytes(8, "big"), payload)


def close_frame(close_code: int, reason: str = "") -> bytes:
    """Encode a close frame. A reason that does not fit into a control frame is cut after a complete character."""
    text = reason.encode()[: _SHORT_MAX - _CODE_BYTES].decode(errors="ignore").encode()
    return frame(Opcode.CLOSE, close_code.to_bytes(_CODE_BYTES, "big") + text)


def parse_close_code(payload: bytes) -> int:
    """Return the code in the payload of a received close frame; 1000 if it has none.

    Raises:
        WebSocketViolation: 1002 for one byte or a code that must not be sent, 1007 for a reason that is not UTF-8.
    """
    if not payload:
        return NORMAL
    close_code = int.from_bytes(payload[:_CODE_BYTES], "big")
    if len(payload) < _CODE_BYTES or not (close_code in _REGISTERED or close_code in _APPLICATION):
        raise WebSocketViolation(PROTOCOL_ERROR, "A close code that must not be sent.")
    _text(payload[_CODE_BYTES:])
    return close_code


def _text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise WebSocketViolation(BAD_DATA, "Text that is not UTF-8.") from None


class FrameReader:
    """Decodes a stream of frames that arrives in arbitrary pieces.

    `message_max_bytes` limits a whole message, all its fragments together. It is checked when a frame's header arrives,
    before its payload is buffered. An incomplete message is one buffer, however many fragments it has.

    has_more: `feed` stopped after a batch of frames; call it again with `b""`.
    small_fragments: fragments of fewer than 1,024 bytes that the last call of `feed` decoded, without last fragments.
    """

    __slots__ = ("_max_bytes", "_message", "_opcode", "_pending", "has_more", "small_fragments")

    def __init__(self, message_max_bytes: int) -> None:
        self._max_bytes = message_max_bytes
        self._pending = bytearray()
        # The fragments of an incomplete message, joined.
        self._message: bytearray | None = None
        self._opcode = 0
        self.has_more = False
        self.small_fragments = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is incomplete, so that the reader may be deleted."""
        return not self._pending and self._message is None

    @property
    def is_mid_frame(self) -> bool:
        """Whether a frame is incomplete."""
        return bool(self._pending)

    @property
    def buffered_bytes(self) -> int:
        """Bytes of an incomplete frame and an incomplete message."""
        return len(self._pending) + (0 if self._message is None else len(self._message))

    def feed(self, data: bytes, messages: list[Message]) -> None:
        """Append the messages that `data` completes to `messages`: (opcode, payload), text as str, others as bytes.

        One call decodes a batch of frames. `has_more` states whether to call it again.

        Raises:
            WebSocketViolation: the client broke RFC 6455. `messages` holds the messages before that. The reader must
                not be used any more.
        """
        self.has_more, self.small_fragments = False, 0
        pending = self._pending
        if pending:
            pending += data
            data = bytes(pending) if len(pending) >= self._frame_size(pending) else b""
            if not data:
                return
            pending.clear()
        at = 0
        for _ in range(_BATCH_MAX):
            if (end := at + self._frame_size(data, at)) > len(data):
                break
            self._take(data, at, end, messages)
            at = end
        else:
            self.has_more = at < len(data)
        if at < len(data):
            pending += memoryview(data)[at:]

    def _frame_size(self, data: bytes | bytearray, at: int = 0) -> int:
        """Return the size of the frame at `at`. If its header is incomplete: one byte more than there are."""
        have = len(data) - at
        if have < 2:  # RFC 6455: the first two bytes of a header
            return have + 1
        first, second = data[at], data[at + 1]
        self._check_start(first, second)
        size, header = second & _LENGTH, 2
        if size > _SHORT_MAX:
            width = 2 if size == _MEDIUM else 8
            header += width
            if have < header:
                return have + 1
            shorter_form_max = _SHORT_MAX if width == 2 else _MEDIUM_MAX
            size = int.from_bytes(data[at + 2 : at + header], "big")
            if size <= shorter_form_max or size > _LENGTH_MAX:
                raise WebSocketViolation(PROTOCOL_ERROR, "A length that is not in its shortest form.")
        fragments_size = len(self._message) if self._message is not None else 0
        if size + fragments_size > self._max_bytes and not first & _CONTROL:
            raise WebSocketViolation(TOO_BIG, f"A message of more than {self._max_bytes} bytes.")
        return header + _MASK_BYTES + size

    def _check_start(self, first: int, second: int) -> None:
        opcode = first & _OPCODE
        if first & _RSV:
            raise WebSocketViolation(PROTOCOL_ERROR, "A reserved bit is set and no extension was negotiated.")
        if opcode not in _OPCODES:
            raise WebSocketViolation(PROTOCOL_ERROR, "A reserved opcode.")
        if not second & _MASKED:
            raise WebSocketViolation(PROTOCOL_ERROR, "A client's frame must be masked.")
        if opcode & _CONTROL:
            if not first & _FIN or second & _LENGTH > _SHORT_MAX:
                raise WebSocketViolation(PROTOCOL_ERROR, "A control frame is at most 125 bytes and never fragmented.")
        elif (opcode == Opcode.CONTINUATION) is (self._message is None):
            message = "A continuation without a first frame, or a first frame within a message."
            raise WebSocketViolation(PROTOCOL_ERROR, message)

    def _take(self, data: bytes, at: int, end: int, messages: list[Message]) -> None:
        first = data[at]
        opcode = first & _OPCODE
        code = data[at + 1] & _LENGTH
        body = at + 2 + (0 if code <= _SHORT_MAX else 2 if code == _MEDIUM else 8) + _MASK_BYTES
        payload = unmask(data[body:end], data[body - _MASK_BYTES : body])
        if opcode & _CONTROL:
            messages.append((opcode, payload))
            return
        message = self._message
        if not first & _FIN:
            self.small_fragments += len(payload) < _SMALL_FRAGMENT_BYTES
            if message is None:
                self._opcode, self._message = opcode, bytearray(payload)
            else:
                message += payload
            return
        if message is not None:
            message += payload
            opcode, payload = self._opcode, bytes(message)
            self._message = None
        messages.append((opcode, _text(payload) if opcode == Opcode.TEXT else payload))


def decode_frames(reader: FrameReader, data: bytes) -> tuple[list[Message], WebSocketViolation | None]:
    """Return the complete messages of the next batch of frames, and a protocol error after them, if any."""
    messages: list[Message] = []
    try:
        reader.feed(data, messages)
    except WebSocketViolation as error:
        return messages, error
    return messages, None
