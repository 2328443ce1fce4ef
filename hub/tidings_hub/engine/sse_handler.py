"""Handle requests for event streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tidings.codes import CODES
from tidings_hub import runtime
from tidings_hub.core.frame import LAST_CHUNK, HubEvent
from tidings_hub.engine.application import HandshakeRequest
from tidings_hub.engine.protocols import event_source, http_response
from tidings_hub.engine.protocols.engineio import TransportKind
from tidings_hub.engine.protocols.error_body import api_error_json, error_json
from tidings_hub.engine.protocols.http_query import parse_query
from tidings_hub.engine.sse_stream import SseStream, stream_start

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
        http_connection.refuse(400, api_error_json("bad_request"))
        return None

    def on_body_too_large(self, http_connection: HttpConnection) -> None:
        """Refuse the request. Never called, because `accept_body` allows no body."""
        http_connection.refuse(413, api_error_json("too_large"))

    def try_repeat(self, http_connection: HttpConnection, line: bytes) -> bool:
        """Return False: a stream uses up its connection, so no request follows another."""
        return False

    def handle(self, http_connection: HttpConnection, head: RequestHead, body: bytes) -> None:
        """Open a stream, or refuse the request."""
        query = parse_query(head)
        if head.method != "GET":
            http_connection.refuse(405, api_error_json("not_allowed"))
        elif query is None:
            http_connection.refuse(400, api_error_json("bad_request"))
        elif code := "draining" if self.is_draining else self.mount.count_refusal(http_connection.remote):
            self._refuse(http_connection, head, code)
        else:
            mount, remote = self.mount, http_connection.remote
            request = HandshakeRequest(
                head.path, query, head.headers, remote, http_connection.secure, TransportKind.SSE
            )
            fd = http_connection.release_fd()
            self._set_user_timeout(fd)
            headers = http_connection.extra_headers
            stream = SseStream(
                mount,
                mount.new_sid(),
                remote,
                fd=fd,
                extra_headers=headers,
                is_chunked=head.version == "1.1",
                is_event_source=event_source.is_event_source(head.headers),
            )
            mount.pump.reassign(fd, stream)
            mount.admit(stream, request)

    def _refuse(self, http_connection: HttpConnection, head: RequestHead, code: str) -> None:
        """Refuse a stream for which there is no room, so that its client returns (PROTOCOL.md section 6)."""
        if not event_source.is_event_source(head.headers):
            http_connection.extra_headers += http_response.retry_after_line()
            http_connection.refuse(CODES[code].http_status, api_error_json(code), close=True)
            return
        is_chunked = head.version == "1.1"
        start = stream_start(http_connection.extra_headers, event_source.retry_ms(code), is_chunked=is_chunked)
        event = HubEvent("tidings:close", error_json(code))
        body = event.chunk + LAST_CHUNK if is_chunked else event.sse
        http_connection.send_raw(start + body, keep_alive=False)

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
