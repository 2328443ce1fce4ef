"""Close a connection so that its last bytes still arrive.

If a socket with unread bytes is closed, the kernel resets the connection, and the other side may lose the last response
(RFC 9112 section 9.6). So `Linger` writes the last bytes, shuts down the sending half, then reads and
discards until the other side ends or a timeout expires.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from tidings_hub import runtime
from tidings_hub.engine.outbuffer import OutBuffer, is_unacknowledged, is_undelivered

if TYPE_CHECKING:
    from tidings_hub.engine.timing_wheel import TimingWheel

_os = runtime.original("os")
_socket: Any = runtime.original("socket")
_EPOLLOUT = 4
_READ_BYTES = 65_536
# A client that continues to send after its last response is cut off at this amount.
_DISCARDED_MAX_BYTES = 4_194_304
# struct linger {on, 0 seconds}: with it, close(2) sends a reset and frees the buffers.
_RESET = struct.pack("ii", 1, 0)


class LingerPump(Protocol):
    """What `Linger` needs of the pump."""

    wheel: TimingWheel

    def on_cut_off(self) -> object:
        """Count a descriptor whose time is over."""

    def want_write(self, fd: int, *, want: bool) -> None:
        """Watch writability."""

    def only_write(self, fd: int) -> None:
        """Watch nothing but writability."""

    def close(self, fd: int) -> None:
        """Close a descriptor."""


class Linger:
    """Owns a descriptor from the server's last bytes to its close."""

    __slots__ = (
        "_discarded_bytes", "_fd", "_is_shut_down", "_out", "_peer_ended", "_pump", "_wait_s", "_was_unread", "slot",
    )  # fmt: skip

    def __init__(self, pump: LingerPump, fd: int, out: OutBuffer | None, last_bytes: bytes, wait_s: float) -> None:
        self.slot = -1
        self._pump = pump
        self._fd = fd
        self._out = out if out is not None else OutBuffer()
        self._wait_s = wait_s
        self._is_shut_down = False
        self._peer_ended = False
        self._discarded_bytes = 0
        # Whether the client had not received the last bytes when the connection ended.
        self._was_unread = False
        if last_bytes:
            self._out.add(last_bytes)

    def start(self) -> None:
        """Write as much as the kernel accepts now."""
        self._pump.wheel.schedule(self, self._wait_s)
        self._flush()

    def waiting_rank(self, _now_s: float) -> tuple[int, float] | None:
        """The first to be closed for a new client. None: the last bytes are not written yet. See `SocketRoom`."""
        return (0, 0.0) if self._is_shut_down else None

    def is_unread(self) -> bool:
        """Whether a part of the last bytes has not reached the client's machine."""
        return self._was_unread or bool(self._out.parts) or is_undelivered(self._fd)

    def on_event(self, mask: int) -> None:
        """Continue to write, or read and discard."""
        if mask & _EPOLLOUT:
            self._flush()
        if mask & ~_EPOLLOUT and self._fd >= 0:
            self._read_and_discard()

    def abort(self) -> None:
        """Close the descriptor immediately."""
        self._pump.wheel.cancel(self)
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._pump.close(fd)

    def on_deadline(self, _now_s: float) -> float | None:
        """Reset the connection: the other side did not end in time."""
        if self._fd >= 0:
            self._pump.on_cut_off()
            self._was_unread = self.is_unread()
            # After a plain close, the kernel would keep unsent data, up to megabytes, for minutes.
            self._with_socket(lambda own: own.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, _RESET))
        self.abort()
        return None

    def _flush(self) -> None:
        try:
            done = self._out.flush(self._fd)
            if done and not self._is_shut_down:
                self._is_shut_down = True
                self._shut_down()
        except OSError:
            # The client has reset the connection.
            self._was_unread = True
            self.abort()
            return
        if not self._peer_ended:
            self._pump.want_write(self._fd, want=not done)
        elif done:
            self.abort()

    def _shut_down(self) -> None:
        self._with_socket(lambda own: own.shutdown(_socket.SHUT_WR))

    def _with_socket(self, function: Callable[[Any], object]) -> None:
        own_socket = _socket.socket(fileno=self._fd)
        try:
            function(own_socket)
        finally:
            own_socket.detach()

    def _read_and_discard(self) -> None:
        try:
            data = _os.read(self._fd, _READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, self._was_unread = b"", True
        self._discarded_bytes += len(data)
        if data and self._discarded_bytes <= _DISCARDED_MAX_BYTES:
            return
        # The other side has ended, or sends too much. While bytes are still being written, it may have shut down only
        # its sending half (as `nc -N` does) and still read.
        if data or self._is_shut_down:
            self._was_unread = self._was_unread or is_unacknowledged(self._fd, is_shut_down=self._is_shut_down)
            self.abort()
        else:
            self._peer_ended = True
            self._pump.only_write(self._fd)
