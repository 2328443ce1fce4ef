"""One publication as the bytes that each kind of connection gets.

Built at first use and kept, so that a fan-out encodes once however many
connections it has. The publication's data is never parsed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tidings.wire.publication import Publication
from tidings_hub.core.delivery_report import DeliveryReport

# RFC 6455 section 5.2: FIN and opcode text; the server's frames are not masked.
_FIN_TEXT = 0x81
_SHORT_MAX = 125
_MEDIUM_MAX = 0xFFFF
# Engine.IO v4: packets of one polling payload are joined by a record separator.
SEPARATOR = b"\x1e"


def text_frame(payload: bytes) -> bytes:
    """`payload` as one unmasked WebSocket text frame (RFC 6455 section 5.2)."""
    size = len(payload)
    if size <= _SHORT_MAX:
        return b"%c%c%b" % (_FIN_TEXT, size, payload)
    if size <= _MEDIUM_MAX:
        return b"%c\x7e%b%b" % (_FIN_TEXT, size.to_bytes(2, "big"), payload)
    return b"%c\x7f%b%b" % (_FIN_TEXT, size.to_bytes(8, "big"), payload)


class Frame:
    """The bytes of one publication, per kind of connection.

    `packet`: the Engine.IO packet of a polling payload, `42[event,data,channel,cursor]`.
    `websocket`: the same as one complete text frame.
    `sse`: one event of an event stream (WHATWG HTML section 9.2.6), its id the cursor.
    """

    __slots__ = ("_sse", "_websocket", "packet", "publication", "seq")
    # What counts who gets it; few publications ask for that (`core.reports.ReportedFrame`).
    report: DeliveryReport | None = None

    def __init__(self, publication: Publication) -> None:
        self.publication = publication
        self.seq = publication.seq
        # Channel and cursor are of checked alphabets: no JSON escape can be needed.
        self.packet = b'42[%b,"%b","%b.%d%b"]' % (
            publication.fragment,
            publication.channel.encode(),
            publication.epoch.encode(),
            publication.seq,
            publication.other_places.encode(),
        )
        self._websocket: bytes | None = None
        self._sse: bytes | None = None

    @property
    def websocket(self) -> bytes:
        """A complete unmasked text frame."""
        if self._websocket is None:
            self._websocket = text_frame(self.packet)
        return self._websocket

    @property
    def sse(self) -> bytes:
        """One event: id, event and a single data line (neither an event nor JSON holds a raw line break).

        The channel goes first as a field of the data: `{"channel": …, "data": …}`.
        """
        if self._sse is None:
            publication = self.publication
            self._sse = b'id: %b\nevent: %b\ndata: {"channel":"%b","data":%b}\n\n' % (
                publication.cursor.encode(),
                publication.event.encode(),
                publication.channel.encode(),
                publication.data_json,
            )
        return self._sse


class HubEvent:
    """Something the hub itself tells one connection, in a Frame's three forms.

    `data_json` is compact JSON; `cursor` becomes the last argument, where a stock client takes its offset from, and the
    id of the SSE event, so that a browser remembers it; without one both keep what they have.
    """

    __slots__ = ("_cursor", "_data_json", "_event", "packet", "seq")

    def __init__(self, event: str, data_json: bytes, *, cursor: str | None = None) -> None:
        # A cursor is of a checked alphabet: no JSON escape can be needed.
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


class DisconnectFrame:
    """Socket.IO's DISCONNECT: a stock client that gets it does not come back by itself."""

    __slots__ = ()
    packet = b"41"
    websocket = text_frame(b"41")
    sse = b""


class Encoded(Protocol):
    """What a fan-out writes: a Frame, a Notice or a Goodbye."""

    @property
    def packet(self) -> bytes:
        """The Engine.IO packet of a polling payload."""

    @property
    def websocket(self) -> bytes:
        """A complete unmasked text frame."""

    @property
    def sse(self) -> bytes:
        """One event of an event stream."""


def join_packets(frames: Sequence[Encoded]) -> bytes:
    """The frames as one polling payload."""
    return SEPARATOR.join([frame.packet for frame in frames])


def join_websocket(frames: Sequence[Encoded]) -> bytes:
    """The frames one after another, for one write."""
    return b"".join([frame.websocket for frame in frames])


def join_sse(frames: Sequence[Encoded]) -> bytes:
    """The frames one after another, for one write."""
    return b"".join([frame.sse for frame in frames])
