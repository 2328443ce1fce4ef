"""The end of a connection: what was written still arrives.

Closing a socket while unread bytes wait in it makes the kernel reset the connection, and
the other side may lose our last answer (RFC 9112 section 9.6). So: write, shut down our
half, read and forget until the other side ends or the time is over.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tidings_hub import runtime
from tidings_hub.engine.outbuffer import OutBuffer

if TYPE_CHECKING:
    from tidings_hub.engine.pump import Pump

_os = runtime.original("os")
_socket: Any = runtime.original("socket")
_EPOLLOUT = 4
_READ_BYTES = 65_536
# A client that goes on sending after its answer is not listened to for ever.
_FORGOTTEN_MAX_BYTES = 4_194_304
# struct linger {on, 0 seconds}: close(2) sends a reset and frees the buffers.
_RESET = struct.pack("ii", 1, 0)


class Linger:
    """Owns a descriptor from our last byte to its end."""

    __slots__ = ("_ended", "_fd", "_forgotten", "_out", "_pump", "_shut", "_wait_s", "slot")

    def __init__(self, pump: Pump, fd: int, out: OutBuffer | None, last: bytes, wait_s: float) -> None:
        self.slot = -1
        self._pump = pump
        self._fd = fd
        self._out = out if out is not None else OutBuffer()
        self._wait_s = wait_s
        self._shut = False
        self._ended = False
        self._forgotten = 0
        if last:
            self._out.add(last)

    def begin(self) -> None:
        """Write what can be written now."""
        self._pump.wheel.put(self, self._wait_s)
        self._flush()

    def event(self, mask: int) -> None:
        """The pump: go on writing, or see the end."""
        if mask & _EPOLLOUT:
            self._flush()
        if mask & ~_EPOLLOUT and self._fd >= 0:
            self._forget()

    def abort(self) -> None:
        """Close at once."""
        self._pump.wheel.drop(self)
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._pump.close(fd)

    def due(self, _now_s: float) -> float | None:
        """The wheel: time is over."""
        if self._fd >= 0:
            self._pump.cut_off()
            # Closed plainly, the kernel would keep what it could not send, megabytes of it, for minutes.
            self._with_socket(lambda ours: ours.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, _RESET))
        self.abort()
        return None

    def _flush(self) -> None:
        try:
            done = self._out.flush(self._fd)
            if done and not self._shut:
                self._shut = True
                self._shut_down()
        except OSError:
            self.abort()
            return
        if not self._ended:
            self._pump.want_write(self._fd, want=not done)
        elif done:
            self.abort()

    def _shut_down(self) -> None:
        self._with_socket(lambda ours: ours.shutdown(_socket.SHUT_WR))

    def _with_socket(self, act: Callable[[Any], object]) -> None:
        ours = _socket.socket(fileno=self._fd)
        try:
            act(ours)
        finally:
            ours.detach()

    def _forget(self) -> None:
        try:
            data = _os.read(self._fd, _READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        self._forgotten += len(data)
        if data and self._forgotten <= _FORGOTTEN_MAX_BYTES:
            return
        # The other side has ended. While we still write, it may have shut down only its own half (`nc -N`).
        if data or self._shut:
            self.abort()
        else:
            self._ended = True
            self._pump.only_write(self._fd)
