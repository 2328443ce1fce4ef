"""Listening sockets: TCP for clients and other nodes, unix sockets for nodes of the same supervisor."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING, Any

from tidings_hub import runtime

if TYPE_CHECKING:
    from tidings_hub.engine.server import EngineServer

_os = runtime.original("os")
_socket: Any = runtime.original("socket")
# Accepts of one turn; the rest comes with the next, after the sockets that are already here.
_ACCEPTS_MAX = 128
# How long a node without descriptors waits before it tries again.
_NO_DESCRIPTORS_S = 0.25
_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# What a unix socket's clients are called: nobody's address, which no network of trusted proxies covers.
_LOCAL = ("unix", 0)


def bound(host: str, port: int, backlog: int, *, shares_port: bool) -> Any:
    """A listening TCP socket.

    Raises:
        OSError: the address is taken or not ours.
    """
    family = _socket.AF_INET6 if ":" in host else _socket.AF_INET
    # Built by hand: eventlet.listen sets SO_REUSEPORT, with which two processes silently share a port.
    made = _socket.socket(family, _socket.SOCK_STREAM)
    try:
        made.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if shares_port:
            # Of one shared socket, epoll wakes the last process that waits: it would get most clients. With one
            # socket each, the kernel spreads them by their addresses (socket(7), SO_REUSEPORT).
            made.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEPORT, 1)
        # Inherited by what is accepted (Linux): without it, two small frames in a row wait for an ACK.
        made.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        made.settimeout(0)
        made.bind((host, port))
        made.listen(backlog)
    except BaseException:
        made.close()
        raise
    return made


def bound_unix(path: str, backlog: int) -> Any:
    """A listening unix socket at `path`; one that a killed process left there is replaced.

    Raises:
        OSError: the folder is not there or not ours.
    """
    with contextlib.suppress(FileNotFoundError):
        _os.unlink(path)
    made = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        made.settimeout(0)
        made.bind(path)
        made.listen(backlog)
    except BaseException:
        made.close()
        raise
    return made


class Listener:
    """Owns one listening socket."""

    def __init__(self, server: EngineServer, listening: Any) -> None:
        self._server = server
        self.socket = listening
        self._resume: runtime.Timer | None = None

    @property
    def address(self) -> tuple[str, int]:
        """(host, port), the port as the kernel chose it."""
        host, port = self.socket.getsockname()[:2]
        return host, port

    def accept(self) -> None:
        """Take what waits, up to a batch."""
        for _ in range(_ACCEPTS_MAX):
            try:
                # accept4(2) as the socket module itself calls it: no socket object per client.
                fd, address = self.socket._accept()  # noqa: SLF001
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_DESCRIPTORS:
                    raise
                self._pause()
                return
            _os.set_blocking(fd, False)
            # A unix socket's client has no address.
            self._server.accepted(fd, (address[0], address[1]) if isinstance(address, tuple) else _LOCAL)

    def _pause(self) -> None:
        # epoll would tell of the waiting connection without pause.
        server = self._server
        server.metrics.accept_paused += 1
        server.log.warning("no free descriptor: accepting again in %s s", _NO_DESCRIPTORS_S)
        server.pump.unlisten(self.socket.fileno())
        self._resume = runtime.call_later(_NO_DESCRIPTORS_S, server.pump.listen, self.socket.fileno(), self)

    def close(self) -> None:
        """Listen no more."""
        if self._resume is not None:
            self._resume.cancel()
        if self.socket.fileno() >= 0:
            self._server.pump.unlisten(self.socket.fileno())
            self.socket.close()
