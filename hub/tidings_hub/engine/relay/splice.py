"""A WebSocket whose session lives on another node: bytes are handed on, both ways, unread.

What one side cannot take yet is held, and then the other side is not read: the slow client is the owner's to judge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidings_hub import runtime
from tidings_hub.engine.outbuffer import OutBuffer

if TYPE_CHECKING:
    from tidings_hub.engine.relay.relay import Relay

_os = runtime.original("os")
_READ_BYTES = 65_536
_EPOLLIN, _EPOLLOUT = 1, 4


class _Side:
    """One of the two descriptors."""

    __slots__ = ("_splice", "fd", "other", "out", "parted", "wants")

    def __init__(self, splice: Splice, fd: int) -> None:
        self._splice = splice
        self.fd = fd
        self.other: _Side = self
        # What this side has not taken yet.
        self.out: OutBuffer | None = None
        self.parted = False
        self.wants = (True, False)

    def event(self, mask: int) -> None:
        """Readable, writable or broken."""
        if mask & _EPOLLOUT and self.out is not None:
            self._splice.flush(self)
        if mask & ~_EPOLLOUT and self.fd >= 0:
            if self.other.out is None:
                self._splice.receive(self)
            elif not mask & _EPOLLIN and not self.parted:
                # It has ended while its last bytes cannot be passed on yet: epoll would say so without pause.
                self.parted = True
                self._splice.part(self)

    def abort(self) -> None:
        """Something of ours failed."""
        self._splice.fail()


class Splice:
    """Joins a client's descriptor with one to the owner of its session."""

    __slots__ = ("_client", "_ended", "_owner_id", "_pump", "_relay", "_there")

    def __init__(self, relay: Relay, owner_id: str, client: int, there: int) -> None:
        self._relay = relay
        self._pump = relay.shared.pump
        self._owner_id = owner_id
        self._ended = False
        self._client, self._there = _Side(self, client), _Side(self, there)
        self._client.other, self._there.other = self._there, self._client
        relay.began(owner_id, self)
        for side in (self._client, self._there):
            self._pump.give(side.fd, side)
            self._pump.unmute(side.fd)

    def begin(self, rest: bytes) -> None:
        """Pass on what the owner said right behind its handshake."""
        if rest:
            self._write(self._client, rest)

    def hear_frames(self, data: bytes) -> None:
        """What the client said right behind its handshake."""
        if not self._ended:
            self._write(self._there, data)

    def fail(self) -> None:
        """The owner has gone, or something of ours failed: the client connects anew."""
        self._end(None)

    def receive(self, side: _Side) -> None:
        """Bytes of `side` for the other one, or its end."""
        try:
            data = _os.read(side.fd, _READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            self._write(side.other, data)
        else:
            self._end(side.other)

    def flush(self, side: _Side) -> None:
        """Go on writing to `side`."""
        if side.out is None:
            return
        try:
            done = side.out.flush(side.fd)
        except OSError:
            self._end(None)
            return
        if done:
            side.out = None
            self._listen()

    def part(self, side: _Side) -> None:
        """Hear nothing of `side` until the other one has taken what waits."""
        self._pump.part(side.fd)

    def _write(self, side: _Side, data: bytes) -> None:
        out = side.out = side.out or OutBuffer()
        out.add(data)
        self.flush(side)
        if side.out is not None:
            self._listen()

    def _listen(self) -> None:
        """Have the pump tell what each side can do something with."""
        for side in (self._client, self._there):
            reads, writes = side.other.out is None, side.out is not None
            if side.parted and reads:
                side.parted = False
                self._pump.rejoin(side.fd)
            elif side.parted or (reads, writes) == side.wants:
                continue
            side.wants = reads, writes
            if reads:
                self._pump.want_write(side.fd, want=writes)
            elif writes:
                self._pump.only_write(side.fd)
            else:
                self._pump.mute(side.fd)

    def _end(self, last: _Side | None) -> None:
        """Close both; `last` still gets what waits for it."""
        if self._ended:
            return
        self._ended = True
        self._relay.sockets -= 1
        self._relay.ended(self._owner_id, self)
        for side in (self._client, self._there):
            fd, side.fd = side.fd, -1
            if side.parted:
                self._pump.rejoin(fd)
            if side is last:
                self._pump.linger(fd, side.out, b"")
            else:
                self._pump.close(fd)
