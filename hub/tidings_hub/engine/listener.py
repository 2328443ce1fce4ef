"""Listening sockets: TCP for clients and other nodes, Unix sockets for nodes of the same supervisor."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING, Any, Protocol

from tidings_hub import runtime

if TYPE_CHECKING:
    import logging

    from tidings_hub.engine.capacity.socket_room import SocketRoom
    from tidings_hub.engine.limits import EngineMetrics
    from tidings_hub.engine.pump import Pump

_os = runtime.original("os")
_socket: Any = runtime.original("socket")
# Accepted sockets per turn. Further ones follow on the next turn, after the events of existing sockets.
_ACCEPTS_MAX = 128
# How long a node without free descriptors waits before it accepts again.
_NO_DESCRIPTORS_PAUSE_S = 0.25
# How long a node whose sockets all serve requests waits before it accepts again.
_NO_ROOM_PAUSE_S = 0.1
_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# The address of clients of a Unix socket. No network of trusted proxies contains it.
_UNIX_ADDRESS = ("unix", 0)


def listen_tcp(host: str, port: int, backlog: int, *, shares_port: bool) -> Any:
    """Return a listening TCP socket. `shares_port`: other processes of this user may listen on the port as well.

    Raises:
        OSError: the address is in use, or does not belong to this machine.
    """
    family = _socket.AF_INET6 if ":" in host else _socket.AF_INET
    # Without eventlet.listen, which sets SO_REUSEPORT: with it, two processes silently share a port.
    listening_socket = _socket.socket(family, _socket.SOCK_STREAM)
    try:
        listening_socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if shares_port:
            # If processes share one socket, epoll wakes the last one that waits, and it gets most clients. With a
            # socket for each, the kernel distributes clients by their addresses (socket(7), SO_REUSEPORT).
            listening_socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEPORT, 1)
        # Accepted sockets inherit it (Linux). Without it, the second of two small frames waits for an ACK.
        listening_socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        listening_socket.settimeout(0)
        listening_socket.bind((host, port))
        listening_socket.listen(backlog)
    except BaseException:
        listening_socket.close()
        raise
    return listening_socket


def listen_unix(path: str, backlog: int) -> Any:
    """Return a listening Unix socket at `path`. Replaces a socket file that a killed process left there.

    Raises:
        OSError: the folder does not exist or is not writable.
    """
    with contextlib.suppress(FileNotFoundError):
        _os.unlink(path)
    listening_socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        listening_socket.settimeout(0)
        listening_socket.bind(path)
        listening_socket.listen(backlog)
    except BaseException:
        listening_socket.close()
        raise
    return listening_socket


class ListenerServer(Protocol):
    """What a listener needs of the server."""

    metrics: EngineMetrics
    log: logging.Logger
    pump: Pump
    room: SocketRoom

    def on_accept(self, fd: int, address: tuple[str, int]) -> None:
        """Take ownership of an accepted socket."""


class Listener:
    """Owns one listening socket."""

    def __init__(self, server: ListenerServer, listening_socket: Any) -> None:
        self._server = server
        self._room = server.room
        self.socket = listening_socket
        self._resume: runtime.Timer | None = None

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port. If port 0 was requested, this is the port that the kernel chose."""
        host, port = self.socket.getsockname()[:2]
        return host, port

    def accept(self) -> None:
        """Accept waiting connections, up to a batch."""
        for count in range(_ACCEPTS_MAX):
            if not self._room.has_room():
                # The pump reads the sockets of this batch next. Until then none is closed for another.
                if count:
                    return
                if not self._room.make_room():
                    # All sockets serve requests. New clients wait in the backlog of the kernel.
                    self._pause(_NO_ROOM_PAUSE_S)
                    return
            try:
                # Calls accept4(2) as the socket module does, without a socket object per client.
                fd, address = self.socket._accept()  # noqa: SLF001
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_DESCRIPTORS:
                    raise
                if self._room.on_no_descriptors():
                    continue
                self._pause(_NO_DESCRIPTORS_PAUSE_S)
                return
            _os.set_blocking(fd, False)
            # The client of a Unix socket has no address.
            self._server.on_accept(fd, (address[0], address[1]) if isinstance(address, tuple) else _UNIX_ADDRESS)

    def _pause(self, seconds: float) -> None:
        # Without a pause, epoll would report the waiting connection on every turn.
        server = self._server
        server.metrics.accept_paused += 1
        server.pump.stop_listening(self.socket.fileno())
        self._resume = runtime.call_later(seconds, self._listen_again)

    def _listen_again(self) -> None:
        try:
            self._server.pump.listen(self.socket.fileno(), self)
        except OSError as error:
            # Without another attempt the node would never accept again.
            self._server.log.warning("cannot accept yet: %s", error)
            self._resume = runtime.call_later(_NO_DESCRIPTORS_PAUSE_S, self._listen_again)

    def close(self) -> None:
        """Stop listening and close the socket."""
        if self._resume is not None:
            self._resume.cancel()
        if self.socket.fileno() >= 0:
            self._server.pump.stop_listening(self.socket.fileno())
            self.socket.close()
