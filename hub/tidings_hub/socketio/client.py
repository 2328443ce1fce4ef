"""One Engine.IO connection as the Socket.IO layer sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tidings.codes import CODES
from tidings.errors import BadPacket
from tidings_hub.core.frame import ConnectErrorFrame, OutgoingFrame, closing_frames
from tidings_hub.services.connect import PendingSession
from tidings_hub.socketio.packet import BEFORE_CONNECT, Packet, check_item_count
from tidings_hub.socketio.packet_inbox import PacketInbox


class Transport(Protocol):
    """What this layer needs of an engine's connection."""

    sid: str
    remote: str
    client: Any

    @property
    def closed(self) -> bool:
        """Whether the connection has ended: nothing that is written reaches the client any more."""

    @property
    def is_stranger(self) -> bool:
        """Whether no namespace was connected yet, so that the client is not authenticated."""

    @property
    def transport(self) -> str:
        """`websocket` or `polling`."""

    def send(self, packet: str | bytes) -> None:
        """Write an Engine.IO message; never waits, never raises."""

    def close(self, code: str, message: str | None = None) -> None:
        """End the connection with a code of `tidings.codes`. An empty `message`: the client has the code already."""

    def cork(self) -> None:
        """Buffer what is sent until `uncork`."""

    def uncork(self) -> None:
        """Send what was buffered since `cork`, in one write."""

    def refund(self) -> None:
        """Do not count the packet that was just received against the connection's inbound rate."""

    def establish(self) -> float:
        """Stop the connect timeout: CONNECT has arrived. Returns the seconds that were left of it; 0: none."""

    def await_connect(self, left_s: float) -> None:
        """Let the connect timeout continue: that CONNECT connected no namespace."""

    def trust(self) -> None:
        """A namespace is connected: the client is no stranger any more."""


class Handshake(Protocol):
    """The first request of a connection. Names of headers are in lower case."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    remote: str


class PendingConnect:
    """A CONNECT while it is answered: from its handler until the session is live.

    `session`: the session that the handler opened. None: the handler refused, or belongs to an app.
    `answer`: the data of the CONNECT packet. None: python-socketio's own, `{"sid": …}`.
    `refusal`: the code with which the connection closes if it has joined no namespace then. Empty: without an answer,
    after a pause.
    `held_packets`: what the handler sent. It must not overtake the CONNECT packet, and goes out behind it.
    """

    __slots__ = ("answer", "held_packets", "refusal", "session")

    def __init__(self) -> None:
        self.session: PendingSession | None = None
        self.answer: dict[str, str] | None = None
        self.refusal = "unauthorized"
        self.held_packets: list[str | bytes] | None = []

    def release(self) -> list[str | bytes]:
        """The held packets. From now on nothing is held back."""
        packets, self.held_packets = self.held_packets, None
        return packets or []


class Client:
    """The Socket.IO state of one connection.

    `inbox`: packets that wait while another one of this connection is handled, so that they are handled in order and
    one at a time; None while none is handled.
    `partial`: a packet whose binary attachments are not complete, `partial_bytes` their size so far.
    `pending`: the CONNECT that is being answered.
    `session`: the hub's session, once it exists. `user_session`: python-socketio's session, which an app may use.
    """

    __slots__ = ("connection", "handshake", "inbox", "partial", "partial_bytes", "pending", "session", "user_session")

    def __init__(self, connection: Transport) -> None:
        self.connection = connection
        # The first request, if an app may need it (environs.py).
        self.handshake: Handshake | None = None
        self.inbox: PacketInbox | None = None
        self.partial: Packet | None = None
        self.partial_bytes = 0
        self.pending: PendingConnect | None = None
        self.session: Any = None
        self.user_session: dict[str, object] | None = None

    def last_frames(self, code: str, message: str | None) -> Sequence[OutgoingFrame]:
        """What the client receives before its connection closes with `code`. See `Transport.close`."""
        if message == "":
            return ()
        is_answered = self.pending is not None and self.pending.held_packets is None
        if is_answered or not self.connection.is_stranger:
            return () if self.session is None else closing_frames(code, message)
        # A stock client discards events before CONNECT is answered. If it should reconnect, it gets no answer.
        return () if CODES[code].should_reconnect else (ConnectErrorFrame(code, message),)

    def end(self, code: str) -> None:
        """Close the connection with a code of `tidings.codes`. Idempotent."""
        self.connection.close(code)

    def read(self, data: str | bytes, *, max_attachment_bytes: int) -> Packet | None:
        """Read one message: returns the packet that it completes, or None while attachments are missing.

        Raises:
            BadPacket: it is not what Socket.IO sends, all attachments together are too large, or the client may not
                send it before CONNECT.
        """
        is_stranger = self.connection.is_stranger
        if is_stranger and isinstance(data, str):
            check_item_count(data)
        partial = self.partial
        if partial is None:
            packet = Packet(binary=False, encoded_packet=data) if data else None
            if packet is None:
                raise BadPacket("an empty packet")
            if is_stranger and self.inbox is None and packet.packet_type not in BEFORE_CONNECT:
                # As in the JavaScript server, but before attachments or a queue use memory.
                raise BadPacket("a packet before CONNECT")
            if packet.attachment_count == 0:
                return packet
            self.partial, self.partial_bytes = packet, 0
            return None
        if isinstance(data, str):
            raise BadPacket("text where an attachment was announced")
        self.partial_bytes += len(data)
        if self.partial_bytes > max_attachment_bytes:
            raise BadPacket(f"attachments of more than {max_attachment_bytes} bytes")
        if not partial.add_attachment(data):
            return None
        self.partial = None
        return partial
