"""One accepted client socket while it uses HTTP: reads requests and passes them to their handlers.

A connection that is idle or waits for the response to a poll holds no parser and no buffer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tidings.errors import BadRequest, TooLarge
from tidings_hub import runtime
from tidings_hub.engine.protocols import http_request, http_response
from tidings_hub.engine.protocols.error_body import error_json
from tidings_hub.engine.protocols.http_body import RequestBody
from tidings_hub.engine.response_socket import ResponseSocket, SocketServer

if TYPE_CHECKING:
    from tidings_hub.engine.protocols.http_request import RequestHead

_read = runtime.original("os").read
_READ_BYTES = 65_536
_EPOLLOUT = 4
# Interval of the wheel's visits to a connection without a deadline: one with a waiting poll or a WSGI request.
_VISIT_S = 30.0
# Pipelined requests of one connection that are processed before other connections get a turn.
_REQUESTS_PER_TURN = 16
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class RequestHandler(Protocol):
    """Handles the requests of one path."""

    def accept_body(self, http_connection: HttpConnection, head: RequestHead) -> int | None:
        """Decide on a request whose body follows: return the body's limit in bytes, or None if it was refused."""

    def on_body_too_large(self, http_connection: HttpConnection) -> None:
        """Refuse a request whose body exceeds the limit that `accept_body` returned."""

    def handle(self, http_connection: HttpConnection, head: RequestHead, body: bytes) -> None:
        """Respond to a complete request, now or later."""

    def try_repeat(self, http_connection: HttpConnection, line: bytes) -> bool:
        """Handle a request with the same header lines as the previous one on this connection, or return False.

        `line` is the request line. The previous request went to this handler's `handle`. Since the header lines are
        the same, the client address, the origin check and `extra_headers` still apply. The handler must check that the
        path is the same. If it returns False, it has changed nothing, and the request is parsed as usual.
        """


class HttpServer(SocketServer, Protocol):
    """What an HTTP connection and the handlers of its requests need of the server."""

    local_address: tuple[str, int]

    def is_trusted_proxy(self, address: str, /) -> bool:
        """Whether the headers of this proxy are trusted."""

    def route(self, http_connection: HttpConnection, head: RequestHead) -> RequestHandler | None:
        """Return the handler of a request, or None if the server has responded to it."""


class HttpConnection(ResponseSocket):
    """Reads HTTP requests from one client socket. The base class sends the responses."""

    __slots__ = (
        "_body", "_handler", "_head", "_is_head_method", "_last_handler", "_last_lines", "address",
        "extra_headers", "host", "is_relayed", "remote", "secure", "server",
    )  # fmt: skip

    server: HttpServer

    def __init__(self, server: HttpServer, fd: int, address: tuple[str, int]) -> None:
        super().__init__(fd)
        self.server = server
        # Header lines that every response to the current request needs.
        self.extra_headers = b""
        # The client's address, scheme and requested host. Behind a trusted proxy they differ from the socket's.
        self.remote, self.secure, self.host = address[0], False, ""
        # Whether another node sent the request.
        self.is_relayed = False
        self.address = address
        # The request whose body is being read, and its handler.
        self._head: RequestHead | None = None
        self._handler: RequestHandler | None = None
        self._body: RequestBody | None = None
        # Handler and header lines of the last request, for `try_repeat`. None: the next request is parsed.
        self._last_handler: RequestHandler | None = None
        self._last_lines = b""
        self._is_head_method = False
        self._read_within(server.limits.head_timeout_s)

    # --- called by the pump and the wheel ---

    def on_event(self, mask: int) -> None:
        """Handle epoll's bits in `mask`: the socket is readable, writable or broken."""
        if mask & _EPOLLOUT:
            self._flush()
        if mask & ~_EPOLLOUT and self._fd >= 0 and not self._is_detached:
            self._receive()

    def resume(self) -> None:
        """Process requests that were received while an earlier one waited for its response."""
        if self._fd >= 0 and not self._is_busy:
            self.server.pump.unmute(self._fd)
            self._process_input()

    def on_deadline(self, now_s: float) -> float | None:
        """Close the connection if its deadline has passed. Return the seconds until the next visit of the wheel.

        There are deadlines for a head, a body, a response that the client does not read, and an idle connection.
        """
        if self._fd < 0:
            return None
        if not self._deadline_s or self._is_detached:
            return min(_VISIT_S, self.server.limits.idle_timeout_s)
        if now_s < self._deadline_s:
            return self._deadline_s - now_s
        if self._reading_s and (self._input or self._head is not None):
            self.server.metrics.http_timeouts += 1
            self.refuse(408, b"", close=True)
            return None
        if self._out is not None:
            self.server.metrics.http_unread += 1
        elif self._reading_s:
            # The client never sent a byte, so there is no request to respond to.
            self.server.metrics.http_timeouts += 1
        else:
            self.server.metrics.http_idle += 1
        self.abort()
        return None

    def _receive(self) -> None:
        try:
            data = _read(self._fd, _READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._end_by_client(is_reset=True)
            return
        if not data:
            self._on_peer_shutdown()
            return
        handler = self._last_handler
        # Fast path: most connections only carry polls, one after the other.
        if (
            handler is not None
            and not self._input
            and data.endswith(self._last_lines)
            and not self._is_busy
            and handler.try_repeat(self, data[: -len(self._last_lines)])
        ):
            self.server.metrics.http_requests += 1
            return
        is_in_head = bool(self._input) and self._head is None and not self._is_busy
        is_incomplete = is_in_head and http_request.stays_incomplete(self._input, data)
        self._input = self._input + data if self._input else data
        if is_incomplete and len(self._input) <= self.server.limits.head_max_bytes:
            self._count_input()
        elif not self._is_busy:
            self._process_input()
        elif len(self._input) >= self.server.limits.head_max_bytes:
            # Pipelined requests wait until an earlier one has its response. Beyond this size they stay in the kernel.
            self.server.pump.mute(self._fd)
        if self._input:
            self._count_input()

    def _on_peer_shutdown(self) -> None:
        if self._out is None:
            self._end_by_client(is_reset=False)
        else:
            # The client has shut down its sending side and may still read the response.
            self._close_after = True
            self.server.pump.only_write(self._fd)

    # --- requests ---

    def is_reused(self) -> bool:
        """Whether the client sent an earlier GET request on this connection. Large heads do not count."""
        return bool(self._last_lines)

    @property
    def _is_busy(self) -> bool:
        return self._pending is not None or self._out is not None or self._is_detached

    def _process_input(self) -> None:
        if self._is_processing:
            return
        self._is_processing = True
        try:
            for _ in range(_REQUESTS_PER_TURN):
                if not self._input or self._is_busy or self._fd < 0 or not self._process_next():
                    break
            else:
                if self._input and not self._is_busy and self._fd >= 0:
                    self.pause(0, self.resume)
        except BadRequest as error:
            self.server.metrics.http_refused += 1
            self.refuse(400, str(error).encode(), content_type=http_response.TEXT, close=True)
        finally:
            self._is_processing = False
        self._count_input()

    def _count_input(self) -> None:
        size = len(self._input) + (0 if self._body is None else self._body.size)
        if self._fd < 0 or not size:
            self.server.budget.release(self)
        else:
            self.server.budget.hold(self, size)

    def shed_input(self) -> None:
        """Close with status 503: the node holds too many incomplete requests."""
        if self._is_busy or self._fd < 0:
            self.abort()
            return
        self.extra_headers = http_response.retry_after_line()
        self.refuse(503, error_json("full"), close=True)

    def _process_next(self) -> bool:
        """Process one head, or the next part of a body. Return whether more input may be processed."""
        return self._read_head() if self._head is None else self._read_body(self._head)

    def _read_head(self) -> bool:
        data = self._input.removeprefix(b"\r\n")  # An empty line before a request is ignored (RFC 9112 section 2.2).
        end = data.find(http_request.HEAD_END) + len(http_request.HEAD_END)
        is_complete = end >= len(http_request.HEAD_END)
        limit = self.server.limits.head_max_bytes
        if (end if is_complete else len(data)) > limit:
            self.server.metrics.http_refused += 1
            self.refuse(431, b"", close=True)
            return False
        if not is_complete:
            http_request.check_partial(data)
            self._input = data
            if not self._reading_s:
                self._read_within(self.server.limits.head_timeout_s)
            return False
        head = http_request.parse_head(data[:end])
        self._input = data[end:]
        self._start_request(head)
        return True

    def _start_request(self, head: RequestHead) -> None:
        self.server.metrics.http_requests += 1
        self._reading_s = 0.0
        self._close_after = not head.keep_alive
        self._is_head_method = head.method == "HEAD"
        # While `_head` is set, the body is incomplete. A response in that state must also close the connection.
        self._head = head if head.has_body else None
        self._last_handler = None
        if (handler := self.server.route(self, head)) is None:
            return
        if not head.has_body:
            handler.handle(self, head, b"")
            if head.lines and head.keep_alive and self._fd >= 0:
                self._last_handler, self._last_lines = handler, head.lines
            return
        if (limit := handler.accept_body(self, head)) is None:
            return
        self._handler = handler
        try:
            self._body = RequestBody(head.length, limit)
        except TooLarge:
            handler.on_body_too_large(self)
            return
        self.end_priority()
        self._read_within(self.server.limits.body_timeout_s)
        if head.headers.get("expect", "").lower() == "100-continue" and not self._input:
            self._write_interim(_CONTINUE)

    def _read_body(self, head: RequestHead) -> bool:
        body, handler = self._body, self._handler
        if body is None or handler is None:
            return False
        try:
            self._input = body.feed(self._input) or b""
        except TooLarge:
            handler.on_body_too_large(self)
            return False
        if not body.done:
            return False
        self._head = self._body = self._handler = None
        self._reading_s = 0.0
        handler.handle(self, head, body.data)
        return True

    def refuse(
        self, status: int, body: bytes, *, content_type: bytes = http_response.JSON, close: bool = False
    ) -> None:
        """Respond with an error. Close the connection if `close` is true or the request was not read completely."""
        extra_headers = self.extra_headers
        if (close or self._head is not None) and not self._close_after:
            self._close_after = True
            extra_headers += http_response.CLOSE
        self._head = self._body = self._handler = None
        self._reading_s = 0.0
        if self._close_after:
            self._input = b""
        content = b"" if self._is_head_method else body
        self.respond(http_response.render(status, content, content_type=content_type, extra_headers=extra_headers))
