"""One Engine.IO connection as the Socket.IO layer sees it."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from tidings_hub.socketio.packet import Packet


class Transport(Protocol):
    """What this layer needs of an engine's connection."""

    sid: str
    remote: str
    client: Any

    @property
    def closed(self) -> bool:
        """Whether nothing can reach the client any more."""

    @property
    def transport(self) -> str:
        """`websocket` or `polling`."""

    def send(self, packet: str | bytes) -> None:
        """Write an Engine.IO message; never waits, never raises."""

    def close(self, code: str) -> None:
        """End the connection with a code of `tidings.codes`."""

    def cork(self) -> None:
        """Hold back what is sent until `uncork`."""

    def uncork(self) -> None:
        """Send what `cork` held back, in one write."""

    def excuse(self) -> None:
        """The packet that just came does not count against the connection's inbound rate."""

    def establish(self) -> None:
        """A Socket.IO namespace is connected: the connect timeout no longer applies."""


class Client:
    """State beside a connection: what is being handled, and what waits behind it.

    `inbox`: packets that wait while one of this connection is being handled, so that they are
    handled in order and one at a time; None while nothing is.
    `held`: EVENT packets that a connect handler sent; they go out after its CONNECT answer.
    `partial`: a packet that still waits for binary attachments.
    `answer`: what its CONNECT is answered with, where that is not upstream's `{"sid": …}`.
    `session`: the hub's session, once there is one. `custom`: python-socketio's user session.
    """

    __slots__ = ("answer", "connection", "held", "inbox", "partial", "partial_bytes", "session", "user_session")

    def __init__(self, connection: Transport) -> None:
        self.connection = connection
        self.inbox: deque[Packet | str] | None = None
        self.held: list[str | bytes] | None = None
        self.partial: Packet | None = None
        self.partial_bytes = 0
        self.answer: dict[str, str] | None = None
        self.session: Any = None
        self.user_session: dict[str, object] | None = None
