"""The interface between the engine and the application that is mounted on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tidings_hub.core.frame import OutgoingFrame
    from tidings_hub.engine.connection import Connection
    from tidings_hub.engine.protocols.engineio import TransportKind
    from tidings_hub.engine.sse_stream import SseStream


@dataclass(frozen=True, slots=True)
class HandshakeRequest:
    """The HTTP request that opened a connection. The engine does not keep it.

    `headers`: names in lower case. `query`: the first value of each name. `remote` and `secure`: the client's address
    and whether it uses TLS, from a trusted proxy's headers or else from the socket.
    """

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    remote: str
    secure: bool
    kind: TransportKind


class Application(Protocol):
    """Receives the events of Engine.IO sessions.

    The pump calls it, so it must never block. If it raises, the engine closes that connection with `internal`.
    """

    def on_open(self, connection: Connection, request: HandshakeRequest) -> None:
        """A session was opened. It may send at once: the packets follow the open packet."""

    def on_message(self, connection: Connection, data: str | bytes) -> None:
        """An Engine.IO message arrived: text without its type, or binary."""

    def last_frames(self, connection: Connection, code: str, message: str | None) -> Sequence[OutgoingFrame]:
        """What the client receives before the connection closes with `code`. Must not send, and must not raise.

        `message`: the one that `Connection.close` got; None: the engine closes the connection.
        """

    def on_close(self, connection: Connection, reason: str) -> None:
        """The session ended. Called exactly once, and never from inside `send`, `deliver` or `close`.

        `reason`: "transport close", "ping timeout", "client disconnect" or the name of a close code.
        """


class SseApplication(Protocol):
    """Receives the events of event streams. The rules of `Application` apply."""

    def on_open(self, connection: SseStream, request: HandshakeRequest) -> None:
        """A client requested a stream. Call `connection.accept()` or `connection.refuse(code, text)`, now or soon."""

    def last_frames(self, connection: SseStream, code: str, message: str | None) -> Sequence[OutgoingFrame]:
        """What the client receives before an accepted stream ends with `code`."""

    def on_close(self, connection: SseStream, reason: str) -> None:
        """The stream ended. Called exactly once."""
