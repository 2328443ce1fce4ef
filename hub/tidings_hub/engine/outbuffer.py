"""Bytes that wait to be written to one connection: references to shared bytes, in order, with a total size.

`is_undelivered` asks the kernel about the bytes that it has accepted. Linux only, like epoll.
"""

from __future__ import annotations

import fcntl
import sys
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Final

from tidings_hub import runtime

_os, _socket, _select = runtime.original("os"), runtime.original("socket"), runtime.original("select")
_writev = _os.writev
# writev accepts at most IOV_MAX (1,024) parts. A socket buffer is full long before that.
_PARTS_MAX = 64
# tcp(7) has no name for the first one: linux/sockios.h.
_SIOCOUTQNSD: Final = 0x894B
_SIOCOUTQ: Final = 0x5411
# The offset of `tcpi_retransmits` in `struct tcp_info`: linux/tcp.h.
_RETRANSMITS_AT: Final = 2


class OutBuffer:
    """Data that the kernel has not accepted yet, oldest first.

    For a WebSocket or an event stream, the parts are bytes of the stream. For a polling session, each part is one or
    more complete Engine.IO packets. The owner checks `size` against its limit.
    """

    __slots__ = ("is_partial", "is_watched", "parts", "sent", "size")

    def __init__(self) -> None:
        self.parts: deque[bytes | memoryview] = deque()
        self.size = 0
        # Whether the first part is the rest of a part whose beginning was written.
        self.is_partial = False
        # Bytes written since this buffer was created. If it grows, a slow client is still reading.
        self.sent = 0
        # Whether the pump watches the writability of the socket.
        self.is_watched = False

    def add(self, part: bytes | memoryview) -> None:
        """Append `part`."""
        self.parts.append(part)
        self.size += len(part)

    def extend(self, parts: Sequence[bytes], size: int) -> None:
        """Append all `parts`, `size` bytes in total."""
        self.parts.extend(parts)
        self.size += size

    def add_rest(self, blob: bytes, written: int) -> None:
        """Append `blob` without its first `written` bytes."""
        self.is_partial = written > 0
        self.add(memoryview(blob)[written:] if written else blob)

    def take(self, count: int) -> list[bytes | memoryview]:
        """Remove and return the first `count` parts, or all."""
        parts = self.parts
        if len(parts) <= count:
            removed = list(parts)
            parts.clear()
            self.size = 0
            return removed
        removed = [parts.popleft() for _ in range(count)]
        self.size -= sum(map(len, removed))
        return removed

    def keep_partial(self) -> None:
        """Discard everything except a part whose beginning is already written."""
        first = self.parts[0] if self.is_partial and self.parts else None
        self.parts.clear()
        self.size = 0
        if first is not None:
            self.add(first)

    def flush(self, fd: int) -> bool:
        """Write as much as the kernel accepts. Return whether the buffer is empty.

        Raises:
            OSError: the connection is broken.
        """
        parts = self.parts
        while parts:
            try:
                written: int = _writev(fd, list(islice(parts, _PARTS_MAX)))
            except (BlockingIOError, InterruptedError):
                return False
            self.size -= written
            self.sent += written
            while parts and written >= len(parts[0]):
                written -= len(parts.popleft())
                self.is_partial = False
            if written:
                parts[0] = memoryview(parts[0])[written:]
                self.is_partial = True
        return True


def is_undelivered(fd: int) -> bool:
    """Whether the client's machine does not take what was written to this TCP socket. False if unknown.

    Either the kernel holds bytes, because the client does not read. Or it sends bytes again, because no
    acknowledgement comes: the client's network or address has changed, and nothing has closed the connection. Or it has
    reset the connection, as a machine does whose program did not read all bytes.
    """
    try:
        return _unsent_bytes(fd) > 0 or _retransmits(fd) > 0 or _is_reset(fd)
    except (OSError, ValueError):
        # A closed socket, or one that is no TCP socket.
        return False


def _unsent_bytes(fd: int) -> int:
    return int.from_bytes(fcntl.ioctl(fd, _SIOCOUTQNSD, bytes(4)), sys.byteorder)


def _retransmits(fd: int) -> int:
    """How often the oldest bytes were sent again. A working connection acknowledges them before the first time."""
    tcp = _socket.socket(fileno=fd)
    try:
        info: bytes = tcp.getsockopt(_socket.IPPROTO_TCP, _socket.TCP_INFO, _RETRANSMITS_AT + 1)
        return info[_RETRANSMITS_AT]
    finally:
        # The descriptor stays open.
        tcp.detach()


def _is_reset(fd: int) -> bool:
    watch = _select.poll()
    watch.register(fd, 0)
    return any(events & _select.POLLERR for _, events in watch.poll(0))


def is_unacknowledged(fd: int, *, is_shut_down: bool) -> bool:
    """Whether a part of what was written has not reached the client's machine, which has just ended the connection.

    A client that read everything has acknowledged everything. `is_shut_down`: whether this side had ended it before.
    False if unknown.
    """
    try:
        unacknowledged_bytes = int.from_bytes(fcntl.ioctl(fd, _SIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return False
    # The end of this side counts as a byte.
    return unacknowledged_bytes > int(is_shut_down)
