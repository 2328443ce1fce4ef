"""One publication as the bytes that each kind of connection receives.

The bytes are built at first use and cached, so a fan-out encodes once for any number of connections. The data of the
publication is never parsed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Protocol

from tidings.codes import CODES
from tidings.wire.publication import Publication
from tidings_hub.core.delivery_report import DeliveryReport

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
# RFC 6455 section 5.2: FIN and opcode text; the server's frames are not masked.
_FIN_TEXT = 0x81
_SHORT_MAX = 125
_MEDIUM_MAX = 0xFFFF
# Engine.IO v4: a record separator joins the packets of one polling payload.
SEPARATOR = b"\x1e"


def text_frame(payload: bytes) -> bytes:
    """`payload` as one unmasked WebSocket text frame (RFC 6455 section 5.2)."""
    size = len(payload)
    if size <= _SHORT_MAX:
        return b"%c%c%b" % (_FIN_TEXT, size, payload)
    if size <= _MEDIUM_MAX:
        return b"%c\x7e%b%b" % (_FIN_TEXT, size.to_bytes(2, "big"), payload)
    return b"%c\x7f%b%b" % (_FIN_TEXT, size.to_bytes(8, "big"), payload)


def as_chunk(blob: bytes) -> bytes:
    """`blob` as one chunk of a chunked body (RFC 9112 section 7.1). No bytes: no chunk, since an empty one is the last.

    Clients such as Python's `requests` return a chunk when it arrives. Without chunks they wait for a full buffer.
    """
    return b"%x\r\n%b\r\n" % (len(blob), blob) if blob else b""


# The end of a chunked body.
LAST_CHUNK = b"0\r\n\r\n"
# An EventSource fires these events itself, so a publication with such a name would look like one of them.
_EVENT_SOURCE_EVENTS = frozenset({"error", "open"})
_SUBSTITUTE_EVENT = "tidings:event"


class Frame:
    """The bytes of one publication, per kind of connection.

    `packet`: the Engine.IO packet of a polling payload, `42[event,data,channel,cursor]`.
    `websocket`: the same as one complete text frame.
    `sse`: one event of an event stream (WHATWG HTML section 9.2.6), its id the cursor. `chunk`: the same as one chunk.
    """

    __slots__ = ("_chunk", "_sse", "_websocket", "packet", "publication", "seq")
    # Counts the recipients. Few publications request that (`core.delivery_reports.ReportedFrame`).
    report: DeliveryReport | None = None

    def __init__(self, publication: Publication) -> None:
        self.publication = publication
        self.seq = publication.seq
        # Channel and cursor are checked to use only characters that need no JSON escape.
        self.packet = b'42[%b,"%b","%b.%d%b"]' % (
            publication.fragment,
            publication.channel.encode(),
            publication.epoch.encode(),
            publication.seq,
            publication.other_places.encode(),
        )
        self._websocket: bytes | None = None
        self._sse: bytes | None = None
        self._chunk: bytes | None = None

    @property
    def websocket(self) -> bytes:
        """A complete unmasked text frame."""
        if self._websocket is None:
            self._websocket = text_frame(self.packet)
        return self._websocket

    @property
    def sse(self) -> bytes:
        """One SSE event: id, event and a single data line (an event name and JSON contain no raw line break).

        The data line also names the channel: `{"channel": …, "data": …}`. Of an event that an EventSource fires itself,
        it has the name, too.
        """
        if self._sse is None:
            publication = self.publication
            event, name = publication.event, b""
            if event in _EVENT_SOURCE_EVENTS:
                event, name = _SUBSTITUTE_EVENT, b'"event":"%b",' % event.encode()
            self._sse = b'id: %b\nevent: %b\ndata: {"channel":"%b",%b"data":%b}\n\n' % (
                publication.cursor.encode(),
                event.encode(),
                publication.channel.encode(),
                name,
                publication.data_json,
            )
        return self._sse

    @property
    def chunk(self) -> bytes:
        """The SSE event as one chunk."""
        if self._chunk is None:
            self._chunk = as_chunk(self.sse)
        return self._chunk


class HubEvent:
    """An event of the hub itself for one connection, such as `tidings:gap`, in the three forms of a Frame.

    `data_json` is compact JSON. `cursor` becomes the last argument, from which a stock client takes its offset, and the
    id of the SSE event, which a browser remembers. Without a cursor both keep their previous one.
    """

    __slots__ = ("_cursor", "_data_json", "_event", "packet", "seq")

    def __init__(self, event: str, data_json: bytes, *, cursor: str | None = None) -> None:
        # A cursor is checked to use only characters that need no JSON escape.
        last = b"" if cursor is None else b',"%b"' % cursor.encode()
        self.packet = b'42["%b",%b%b]' % (event.encode(), data_json, last)
        self.seq = 0
        self._event = event
        self._data_json = data_json
        self._cursor = cursor

    @property
    def websocket(self) -> bytes:
        """A complete unmasked text frame."""
        return text_frame(self.packet)

    @property
    def sse(self) -> bytes:
        """One event of an event stream."""
        id_line = b"" if self._cursor is None else b"id: %b\n" % self._cursor.encode()
        return b"%bevent: %b\ndata: %b\n\n" % (id_line, self._event.encode(), self._data_json)

    @property
    def chunk(self) -> bytes:
        """The SSE event as one chunk."""
        return as_chunk(self.sse)


class DisconnectFrame:
    """Socket.IO's DISCONNECT packet: a stock client that receives it does not reconnect by itself."""

    __slots__ = ()
    packet = b"41"
    websocket = text_frame(b"41")
    sse = chunk = b""


class ConnectErrorFrame:
    """Socket.IO's CONNECT_ERROR packet: a stock client emits `connect_error` with the code and does not reconnect."""

    __slots__ = ("packet",)
    sse = chunk = b""

    def __init__(self, code: str, message: str | None = None) -> None:
        text = CODES[code].advice if message is None else message
        self.packet = b"44" + _encode({"message": text, "data": {"code": code, "message": text}}).encode()

    @property
    def websocket(self) -> bytes:
        """A complete unmasked text frame."""
        return text_frame(self.packet)


class OutgoingFrame(Protocol):
    """What a fan-out writes: a Frame, or one of the others above."""

    @property
    def packet(self) -> bytes:
        """The Engine.IO packet of a polling payload."""

    @property
    def websocket(self) -> bytes:
        """A complete unmasked text frame."""

    @property
    def sse(self) -> bytes:
        """One event of an event stream."""

    @property
    def chunk(self) -> bytes:
        """The same as one chunk of a chunked body; empty if there is no event."""


def closing_frames(code: str, message: str | None = None) -> Sequence[OutgoingFrame]:
    """What a client receives before its connection is closed on purpose (PROTOCOL.md section 4).

    `tidings:close`, and Socket.IO's DISCONNECT if the client should not reconnect. `message`: None stands for the
    advice of the code.
    """
    text = CODES[code].advice if message is None else message
    event = HubEvent("tidings:close", _encode({"code": code, "message": text}).encode())
    return (event,) if CODES[code].should_reconnect else (event, DisconnectFrame())


def join_packets(frames: Sequence[OutgoingFrame]) -> bytes:
    """The frames as one polling payload."""
    return SEPARATOR.join([frame.packet for frame in frames])


def join_websocket(frames: Sequence[OutgoingFrame]) -> bytes:
    """The frames one after another, for one write."""
    return b"".join([frame.websocket for frame in frames])


def join_sse(frames: Sequence[OutgoingFrame]) -> bytes:
    """The frames one after another, for one write."""
    return b"".join([frame.sse for frame in frames])
