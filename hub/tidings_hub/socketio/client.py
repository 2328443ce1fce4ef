"""One Engine.IO connection as the Socket.IO layer sees it."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from tidings_hub.services.connect import PendingSession
from tidings_hub.socketio.packet import Packet


class Transport(Protocol):
    """What this layer needs of an engine's connection."""

    sid: str
    remote: str
    client: Any

    @property
    def closed(self) -> bool:
        """Whether the connection has ended: nothing that is written reaches the client any more."""

    @property
    def transport(self) -> str:
        """`websocket` or `polling`."""

    def send(self, packet: str | bytes) -> None:
        """Write an Engine.IO message; never waits, never raises."""

    def close(self, code: str) -> None:
        """End the connection with a code of `tidings.codes`."""

    def cork(self) -> None:
        """Buffer what is sent until `uncork`."""

    def uncork(self) -> None:
        """Send what was buffered since `cork`, in one write."""

    def refund(self) -> None:
        """Do not count the packet that was just received against the connection's inbound rate."""

    def establish(self) -> None:
        """Stop the connect timeout: a Socket.IO namespace is connected."""


class PendingConnect:
    """A CONNECT while it is answered: from its handler until the session is live.

    `session`: the session that the handler opened. None: the handler refused, or belongs to an app.
    `answer`: the data of the CONNECT packet. None: python-socketio's own, `{"sid": …}`.
    `held_packets`: what the handler sent. It must not overtake the CONNECT packet, and goes out behind it.
    """

    __slots__ = ("answer", "held_packets", "session")

    def __init__(self) -> None:
        self.session: PendingSession | None = None
        self.answer: dict[str, str] | None = None
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

    __slots__ = ("connection", "inbox", "partial", "partial_bytes", "pending", "session", "user_session")

    def __init__(self, connection: Transport) -> None:
        self.connection = connection
        self.inbox: deque[Packet | str] | None = None
        self.partial: Packet | None = None
        self.partial_bytes = 0
        self.pending: PendingConnect | None = None
        self.session: Any = None
        self.user_session: dict[str, object] | None = None
