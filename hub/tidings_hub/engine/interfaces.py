"""What the layer above gives to the engine, and what it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tidings_hub.engine.connection import Connection
    from tidings_hub.engine.engineio import Kind

TRANSPORT_CLOSE = "transport close"


@dataclass(frozen=True, slots=True)
class Opening:
    """What the first request of a connection said. The engine does not keep it.

    `headers` have lower-case names; `query` has the first value of each name; `remote` and
    `secure` are what a trusted proxy says, or what the socket knows.
    """

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    remote: str
    secure: bool
    kind: Kind


class Application(Protocol):
    """Called from the pump: it must never block. An exception closes that connection with `internal`."""

    def opened(self, connection: Connection, opening: Opening) -> None:
        """A new session; the client has not got the open packet's answer yet, so sending is fine."""

    def received(self, connection: Connection, data: str | bytes) -> None:
        """An Engine.IO message: text without its type, or binary."""

    def closed(self, connection: Connection, reason: str) -> None:
        """It has ended; called exactly once, never from inside send, deliver or close.

        `reason`: "transport close", "ping timeout", "client disconnect" or the name of a code.
        """


class SseApplication(Protocol):
    """As `Application`, for event streams."""

    def opened(self, connection: Connection, opening: Opening) -> None:
        """A request for a stream: now or soon call `connection.accept()` or `connection.refuse(status, json)`."""

    def closed(self, connection: Connection, reason: str) -> None:
        """It has ended; called exactly once."""
