"""One connection to another node. It carries one request at a time; the pump waits for the response."""

from __future__ import annotations

import errno
import re
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Protocol

from tidings_hub import runtime
from tidings_hub.engine.outbuffer import OutBuffer
from tidings_hub.engine.protocols import http_request, http_response
from tidings_hub.engine.relay.splice import Splice, SpliceRelay

if TYPE_CHECKING:
    from tidings_hub.engine.connection_input import ResponseWriter
    from tidings_hub.engine.http_connection import HttpConnection

_os = runtime.original("os")
_read = _os.read
_socket: Any = runtime.original("socket")
_READ_BYTES = 65_536
_EPOLLOUT = 4
UNIX = "unix:"
_IPV6 = 6
# Matches in the head of a response of http_response.render.
_LENGTH = re.compile(rb"\r\nContent-Length: ([0-9]{1,12})\r\n")
_SWITCHING, _NO_CONTENT = b"101", b"204"
_HEAD_MAX_BYTES = 16_384
# A response holds the session's out-buffer and at most one more publication: twice the buffer's limit is enough.
_RESPONSE_BUFFERS_MAX = 2
_IDLE_MAX_S = 30.0


def connect(address: str) -> int:
    """Start to connect to `host:port` or `unix:path` and return the descriptor. The host is an IP address.

    Raises:
        OSError: the connection failed immediately.
    """
    target: str | tuple[str, int]
    if address.startswith(UNIX):
        family, target = _socket.AF_UNIX, address.removeprefix(UNIX)
    else:
        host, _, port = address.rpartition(":")
        family, target = _endpoint(host.strip("[]"), port)
    client_socket = _socket.socket(family, _socket.SOCK_STREAM)
    try:
        client_socket.settimeout(0)
        if family != _socket.AF_UNIX:
            client_socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        try:
            client_socket.connect(target)
        except BlockingIOError:
            # A TCP handshake continues in the background. A Unix socket blocks only if its queue is full.
            if family == _socket.AF_UNIX:
                raise
    except BaseException:
        client_socket.close()
        raise
    fd: int = client_socket.detach()
    return fd


def _endpoint(host: str, port: str) -> tuple[int, tuple[str, int]]:
    try:
        version = ip_address(host).version
        return (_socket.AF_INET6 if version == _IPV6 else _socket.AF_INET), (host, int(port))
    except ValueError:
        # Resolving a name would block.
        raise OSError(errno.EINVAL, "a node's address must be an IP address and a port") from None


class UpstreamRelay(SpliceRelay, Protocol):
    """What a connection to another node needs of the relay."""

    def keep_idle(self, upstream: Upstream) -> bool:
        """Keep an idle connection for the next request. False: there are enough idle connections."""

    def forget_idle(self, upstream: Upstream) -> None:
        """Remove a closed connection from the idle ones. Idempotent."""

    def refuse_unreachable(self, http_connection: HttpConnection) -> None:
        """Respond with "unknown session": the session's node is unreachable."""


class Upstream:
    """Owns a descriptor to the node `owner` at `address`."""

    __slots__ = (
        "_deadline_s",
        "_fd",
        "_http_connection",
        "_input",
        "_out",
        "_relay",
        "_upgrade",
        "_wait_s",
        "_wants",
        "address",
        "owner",
        "poll",
        "slot",
    )  # fmt: skip

    def __init__(self, relay: UpstreamRelay, fd: int, owner: str, address: str) -> None:
        self.slot = -1
        self.owner = owner
        self.address = address
        # Only for the interface of `PendingRequest`.
        self.poll: ResponseWriter | None = None
        self._relay = relay
        self._fd = fd
        self._input = b""
        self._out: OutBuffer | None = None
        self._http_connection: HttpConnection | None = None
        self._upgrade = False
        self._wait_s = 0.0
        self._wants = False
        self._deadline_s = 0.0
        relay.sockets += 1
        relay.context.pump.add(fd, self)

    def send(self, http_connection: HttpConnection, request: bytes, *, wait_s: float, upgrade: bool) -> None:
        """Send a request of `http_connection`. If there is no response within `wait_s`, the client gets an error."""
        self._http_connection = http_connection
        self._upgrade = upgrade
        self._wait_s = wait_s
        http_connection.wait_for(self)
        self._out = OutBuffer()
        self._out.add(request)
        self._set_deadline(self._relay.context.limits.relay_timeout_s)
        self._flush()

    def is_reusable(self) -> bool:
        """Whether an idle connection is open and quiet. The pump may not have seen yet what arrived on it."""
        try:
            _read(self._fd, 1)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        return False

    # --- called by the pump, the wheel and the client's connection ---

    def on_event(self, mask: int) -> None:
        """Handle epoll's bits in `mask`: the socket is readable, writable or broken."""
        if mask & _EPOLLOUT:
            self._flush()
        if mask & ~_EPOLLOUT and self._fd >= 0:
            self._receive()

    def abort(self) -> None:
        """Fail the request after an internal error."""
        self.fail()

    def on_deadline(self, now_s: float) -> float | None:
        """Close the connection: the node was not reached or did not respond, or the connection was idle too long."""
        if self._fd < 0:
            return None
        if now_s < self._deadline_s:
            return self._deadline_s - now_s
        self.fail()
        return None

    def end(self, _reason: str, _close_code: int) -> None:
        """Close the connection: the client disconnected, and the owner has to notice that."""
        self._http_connection = None
        self._close()

    def fail(self) -> None:
        """Close the connection and respond with "unknown session" to a pending request."""
        http_connection, self._http_connection = self._http_connection, None
        self._close()
        if http_connection is not None:
            self._relay.refuse_unreachable(http_connection)

    # --- the request and its response ---

    def _set_deadline(self, seconds: float) -> None:
        self._deadline_s = runtime.now_s() + seconds
        self._relay.context.wheel.schedule(self, seconds)

    def _flush(self) -> None:
        out = self._out
        if out is None:
            return
        try:
            done = out.flush(self._fd)
        except OSError:
            self.fail()
            return
        if self._wants is done:
            self._wants = not done
            self._relay.context.pump.want_write(self._fd, want=self._wants)
        if done:
            self._out = None
            self._set_deadline(self._wait_s)

    def _receive(self) -> None:
        try:
            data = _read(self._fd, _READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        # On an idle connection, only its end is expected.
        if not data or self._http_connection is None:
            self.fail()
            return
        self._input = self._input + data if self._input else data
        self._parse(self._http_connection)

    def _parse(self, http_connection: HttpConnection) -> None:
        end = self._input.find(http_request.HEAD_END) + len(http_request.HEAD_END)
        if end < len(http_request.HEAD_END):
            if len(self._input) > _HEAD_MAX_BYTES:
                self.fail()
            return
        head = self._input[:end]
        status = head[9:12]
        if status == _SWITCHING and self._upgrade:
            self._start_splice(http_connection, head)
            return
        match = _LENGTH.search(head)
        length = 0 if status == _NO_CONTENT else int(match[1]) if match is not None else -1
        limit = _RESPONSE_BUFFERS_MAX * self._relay.context.limits.out_buffer_bytes + _HEAD_MAX_BYTES
        if length < 0 or end + length > limit or len(self._input) > end + length:
            self.fail()
        elif len(self._input) == end + length:
            self._finish(http_connection, head)

    def _finish(self, http_connection: HttpConnection, head: bytes) -> None:
        response, self._input = self._input, b""
        self._http_connection = None
        keep_alive = http_response.CLOSE not in head
        self._relay.untrack(self.owner, self)
        idle_s = min(self._relay.context.limits.idle_timeout_s / 2, _IDLE_MAX_S)
        if keep_alive and idle_s and self._out is None and self._relay.keep_idle(self):
            # The other node keeps idle connections longer, so that no request meets a closing connection.
            self._set_deadline(idle_s)
        else:
            self._close()
        http_connection.send_raw(response, keep_alive=keep_alive)

    def _start_splice(self, http_connection: HttpConnection, head: bytes) -> None:
        remaining, self._input = self._input[len(head) :], b""
        client = http_connection.accept_upgrade(head)
        if client is None:
            # The client's connection broke and has called `end`.
            return
        self._http_connection = None
        fd, self._fd = self._fd, -1
        self._relay.context.wheel.cancel(self)
        self._relay.untrack(self.owner, self)
        splice = Splice(self._relay, self.owner, client, fd)
        splice.start(remaining)
        http_connection.feed_remaining(splice)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        self._out = None
        relay = self._relay
        relay.sockets -= 1
        relay.context.wheel.cancel(self)
        relay.untrack(self.owner, self)
        relay.forget_idle(self)
        relay.context.pump.close(fd)
