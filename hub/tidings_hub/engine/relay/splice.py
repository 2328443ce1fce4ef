"""A WebSocket whose session another node owns: bytes are copied in both directions without decoding.

If one side cannot accept bytes, they are buffered and the other side is not read. So the owner notices a slow client
and applies its own limits to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tidings_hub import runtime
from tidings_hub.engine.outbuffer import OutBuffer

if TYPE_CHECKING:
    from tidings_hub.engine.mount import EngineContext

_os = runtime.original("os")
_READ_BYTES = 65_536
_EPOLLIN, _EPOLLOUT = 1, 4


class Transfer(Protocol):
    """A request or a WebSocket that this node currently forwards."""

    def fail(self) -> None:
        """End the transfer: the other node is gone."""


class SpliceRelay(Protocol):
    """What a splice needs of the relay."""

    context: EngineContext
    sockets: int

    def track(self, owner: str, transfer: Transfer) -> None:
        """Register a transfer to the node `owner`."""

    def untrack(self, owner: str, transfer: Transfer) -> None:
        """Remove a finished transfer. Idempotent."""


class _Side:
    """One of the two descriptors."""

    __slots__ = ("_splice", "detached", "fd", "interest", "other", "out")

    def __init__(self, splice: Splice, fd: int) -> None:
        self._splice = splice
        self.fd = fd
        self.other: _Side = self
        # Bytes that this side has not accepted yet.
        self.out: OutBuffer | None = None
        self.detached = False
        # Whether the pump watches input and writability.
        self.interest: tuple[bool, bool] = (True, False)

    def on_event(self, mask: int) -> None:
        """Handle epoll's bits in `mask`: the descriptor is readable, writable or broken."""
        if mask & _EPOLLOUT and self.out is not None:
            self._splice.flush(self)
        if mask & ~_EPOLLOUT and self.fd >= 0:
            if self.other.out is None:
                self._splice.receive(self)
            elif not mask & _EPOLLIN and not self.detached:
                # This side has ended, but its last bytes cannot be passed on yet. epoll would report that every turn.
                self.detached = True
                self._splice.detach(self)

    def abort(self) -> None:
        """Close both sides after an internal error."""
        self._splice.fail()


class Splice:
    """Connects a client's descriptor to one of the node that owns its session."""

    __slots__ = ("_client", "_is_closed", "_owner_id", "_pump", "_relay", "_upstream")

    def __init__(self, relay: SpliceRelay, owner_id: str, client: int, upstream: int) -> None:
        self._relay = relay
        self._pump = relay.context.pump
        self._owner_id = owner_id
        self._is_closed = False
        self._client, self._upstream = _Side(self, client), _Side(self, upstream)
        self._client.other, self._upstream.other = self._upstream, self._client
        relay.track(owner_id, self)
        for side in (self._client, self._upstream):
            self._pump.reassign(side.fd, side)
            self._pump.unmute(side.fd)

    def start(self, data: bytes) -> None:
        """Send the client the bytes that the owner sent directly after its handshake response."""
        if data:
            self._write(self._client, data)

    def on_frames(self, data: bytes) -> None:
        """Send the owner the bytes that the client sent directly after its handshake."""
        if not self._is_closed:
            self._write(self._upstream, data)

    def fail(self) -> None:
        """Close both sides, because the owner is gone or after an internal error. The client reconnects."""
        self._end(None)

    def receive(self, side: _Side) -> None:
        """Read from `side` and write to the other one, or handle the end of `side`."""
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
        """Continue to write to `side`."""
        if side.out is None:
            return
        try:
            done = side.out.flush(side.fd)
        except OSError:
            self._end(None)
            return
        if done:
            side.out = None
            self._update_interest()

    def detach(self, side: _Side) -> None:
        """Stop watching `side` until the other one has accepted all buffered bytes."""
        self._pump.detach(side.fd)

    def _write(self, side: _Side, data: bytes) -> None:
        out = side.out = side.out or OutBuffer()
        out.add(data)
        self.flush(side)
        # `flush` ends the splice if the connection of `side` broke.
        if not self._is_closed:
            self._update_interest()

    def _update_interest(self) -> None:
        """Set the events that the pump watches for each side."""
        for side in (self._client, self._upstream):
            reads, writes = side.other.out is None, side.out is not None
            if side.detached and reads:
                side.detached = False
                self._pump.reattach(side.fd)
            elif side.detached or (reads, writes) == side.interest:
                continue
            side.interest = reads, writes
            if reads:
                self._pump.want_write(side.fd, want=writes)
            elif writes:
                self._pump.only_write(side.fd)
            else:
                self._pump.mute(side.fd)

    def _end(self, last: _Side | None) -> None:
        """Close both sides. `last` still receives its buffered bytes."""
        if self._is_closed:
            return
        self._is_closed = True
        self._relay.sockets -= 1
        self._relay.untrack(self._owner_id, self)
        for side in (self._client, self._upstream):
            fd, side.fd = side.fd, -1
            if side.detached:
                self._pump.reattach(fd)
            if side is last:
                self._pump.linger(fd, side.out, b"")
            else:
                self._pump.close(fd)
