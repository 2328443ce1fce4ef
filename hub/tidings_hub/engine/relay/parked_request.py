"""A request that waits for a refresh of the node directory, because its session's node is unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tidings_hub.engine.connection_input import ResponseWriter
    from tidings_hub.engine.http_connection import HttpConnection
    from tidings_hub.engine.protocols.http_request import RequestHead


class ParkingRelay(Protocol):
    """What a parked request needs of the relay."""

    def resume_parked(self, parked: ParkedRequest, http_connection: HttpConnection) -> None:
        """Forward a parked request, or respond with "unknown session" if its node is still unknown."""


class ParkedRequest:
    """A request for an unknown node. It waits for the next refresh of the node directory."""

    __slots__ = ("body", "head", "http_connection", "owner", "poll", "relay", "wait_s")

    def __init__(
        self,
        relay: ParkingRelay,
        http_connection: HttpConnection,
        head: RequestHead,
        body: bytes,
        owner: str,
        *,
        wait_s: float,
    ) -> None:
        self.relay = relay
        self.http_connection: HttpConnection | None = http_connection
        self.head = head
        self.body = body
        self.owner = owner
        self.wait_s = wait_s
        # Only for the interface of `PendingRequest`.
        self.poll: ResponseWriter | None = None

    def end(self, _reason: str, _close_code: int) -> None:
        """Discard the request: the client disconnected."""
        self.http_connection = None

    def resume(self) -> None:
        """Continue after the refresh."""
        if self.http_connection is not None:
            self.relay.resume_parked(self, self.http_connection)

    def abort(self) -> None:
        """Close the client's connection after an internal error."""
        if self.http_connection is not None:
            self.http_connection.abort()
