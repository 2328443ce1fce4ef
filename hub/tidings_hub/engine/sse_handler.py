"""Handle requests for event streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tidings_hub import runtime
from tidings_hub.engine.application import HandshakeRequest
from tidings_hub.engine.connection import Connection
from tidings_hub.engine.protocols.engineio import TransportKind
from tidings_hub.engine.protocols.error_body import error_json
from tidings_hub.engine.protocols.http_query import parse_query

if TYPE_CHECKING:
    from tidings_hub.engine.http_connection import HttpConnection
    from tidings_hub.engine.mount import Mount
    from tidings_hub.engine.protocols.http_request import RequestHead

_socket: Any = runtime.original("socket")


class SseHandler:
    """Turns a GET request into a connection of kind SSE. The application accepts or refuses it."""

    __slots__ = ("is_draining", "mount")

    def __init__(self, mount: Mount) -> None:
        self.mount = mount
        # While true, new streams are refused.
        self.is_draining = False

    def accept_body(self, http_connection: HttpConnection, head: RequestHead) -> int | None:
        """Refuse the request: a request for a stream has no body."""
        http_connection.refuse(400, error_json("bad_request"))
        return None

    def on_body_too_large(self, http_connection: HttpConnection) -> None:
        """Refuse the request. Never called, because `accept_body` allows no body."""
        http_connection.refuse(413, error_json("too_large"))

    def try_repeat(self, http_connection: HttpConnection, line: bytes) -> bool:
        """Return False: a stream uses up its connection, so no request follows another."""
        return False

    def handle(self, http_connection: HttpConnection, head: RequestHead, body: bytes) -> None:
        """Open a stream, or refuse the request."""
        query = parse_query(head)
        if head.method != "GET":
            http_connection.refuse(405, error_json("not_allowed"))
        elif query is None:
            http_connection.refuse(400, error_json("bad_request"))
        elif self.is_draining:
            http_connection.refuse(503, error_json("draining"))
        elif not self.mount.refuse_if_crowded(http_connection):
            mount, remote = self.mount, http_connection.remote
            request = HandshakeRequest(
                head.path, query, head.headers, remote, http_connection.secure, TransportKind.SSE
            )
            fd = http_connection.release_fd()
            self._set_user_timeout(fd)
            headers = http_connection.extra_headers
            connection = Connection(mount, mount.new_sid(), TransportKind.SSE, remote, fd=fd, extra_headers=headers)
            mount.pump.reassign(fd, connection)
            mount.admit(connection, request)

    def _set_user_timeout(self, fd: int) -> None:
        # The client of an event stream never sends anything. So the kernel detects a client that vanished: it
        # breaks the connection if a comment stays unacknowledged for this time (tcp(7), TCP_USER_TIMEOUT).
        options = self.mount.options
        own_socket = _socket.socket(fileno=fd)
        try:
            own_socket.setsockopt(
                _socket.IPPROTO_TCP, _socket.TCP_USER_TIMEOUT, options.ping_interval_ms + options.ping_timeout_ms
            )
        finally:
            own_socket.detach()
