"""Requests that are answered without WSGI. The requests of one turn of the event loop are answered together.

They share a greenlet and a round trip to the broker. A connection has one request at a time, so its requests stay in
order. The bounds are those of the WSGI application: a request counts as one there, also if it shares a greenlet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from tidings_hub import runtime
from tidings_hub.engine.protocols import http_response

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tidings_hub.engine.http_connection import HttpConnection
    from tidings_hub.engine.limits import EngineLimits
    from tidings_hub.engine.protocols.http_request import RequestHead

# Bytes of the bodies in one group. A large request does not delay small ones.
_GROUP_MAX_BYTES = 65_536


class DirectResponse(NamedTuple):
    """A response. `head`: status line and header lines, with a Content-Length and without Date and Connection."""

    head: bytes
    body: bytes

    def render(self, *, keep_alive: bool) -> bytes:
        """The complete response."""
        connection = b"" if keep_alive else http_response.CLOSE
        return b"%b%b%b\r\n%b" % (self.head, http_response.date_line(), connection, self.body)


class DirectApplication(Protocol):
    """Answers some requests without WSGI. No method raises."""

    @property
    def group_max(self) -> int:
        """How many requests are answered together."""

    def respond(self, head: RequestHead) -> DirectResponse | None:
        """Respond to a request that never waits; None: it is another one. Called in the pump: it must not block."""

    def accepts(self, head: RequestHead) -> bool:
        """Whether `respond_all` responds to the request. Called in the pump: it must not block."""

    def read(self, body: bytes) -> Any:
        """Parse the body of a request, for `respond_all`. Does not wait."""

    def respond_all(self, requests: Sequence[Any]) -> list[DirectResponse]:
        """Respond to the requests, which `read` has parsed, in order. Runs in a greenlet and may wait."""


class RequestGroup:
    """Requests that are answered together: their connections, whether these stay open, and the bodies."""

    __slots__ = ("bodies", "connections", "size_bytes")

    def __init__(self) -> None:
        self.connections: list[tuple[HttpConnection, bool]] = []
        self.bodies: list[bytes] = []
        self.size_bytes = 0


class DirectRequests:
    """Groups requests and answers each group in a greenlet of `pool`.

    `discard`: counts and logs an error, and returns the response to a request that it ended.
    """

    def __init__(
        self,
        application: DirectApplication,
        pool: runtime.Pool,
        *,
        limits: EngineLimits,
        discard: Callable[[BaseException], bytes],
    ) -> None:
        self.respond = application.respond
        self.accepts = application.accepts
        self._application = application
        self._pool = pool
        self._limits = limits
        self._discard = discard
        # The group whose greenlet has not started yet.
        self._next: RequestGroup | None = None
        # Requests that joined the group of another one, so `pool.unfinished` does not count them.
        self.joined = 0

    def submit(self, http_connection: HttpConnection, body: bytes, *, keep_alive: bool) -> bool:
        """Queue the request of a detached connection. Return False if there is no room."""
        pool = self._pool
        if pool.unfinished + self.joined >= pool.size + pool.queue_max:
            return False
        group = self._next
        if (
            group is not None
            and len(group.bodies) < self._application.group_max
            and group.size_bytes + len(body) <= _GROUP_MAX_BYTES
        ):
            self.joined += 1
        else:
            group = RequestGroup()
            if not pool.submit(self._serve, group):
                return False
            self._next = group
        group.connections.append((http_connection, keep_alive))
        group.bodies.append(body)
        group.size_bytes += len(body)
        return True

    def _serve(self, group: RequestGroup) -> None:
        if self._next is group:
            self._next = None
        try:
            responses = self._respond(group)
        finally:
            self.joined -= len(group.bodies) - 1
        turn_started_s = runtime.now_s()
        for (http_connection, keep_alive), response in zip(group.connections, responses, strict=True):
            if len(response) > self._limits.wsgi_response_max_bytes:
                http_connection.reattach(self._discard(runtime.ResponseTooLarge()), keep_alive=False)
            else:
                http_connection.reattach(response, keep_alive=keep_alive)
            turn_started_s = runtime.share_turn(turn_started_s)

    def _respond(self, group: RequestGroup) -> list[bytes]:
        timeout_s = self._limits.wsgi_timeout_s
        try:
            responses: list[DirectResponse] = runtime.call_with_timeout(timeout_s, self._respond_all, group.bodies)
        except runtime.CallTimeout:
            message = f"no response within {timeout_s} s"
            return [self._discard(TimeoutError(message)) for _ in group.bodies]
        return [
            response.render(keep_alive=keep_alive)
            for (_, keep_alive), response in zip(group.connections, responses, strict=True)
        ]

    def _respond_all(self, bodies: Sequence[bytes]) -> list[DirectResponse]:
        turn_started_s = runtime.now_s()
        requests = []
        for body in bodies:
            requests.append(self._application.read(body))
            # Other connections and timers are served between two long bodies.
            turn_started_s = runtime.share_turn(turn_started_s)
        return self._application.respond_all(requests)
