"""The fan-out: the same publications to many connections, with one write for each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tidings_hub import runtime
from tidings_hub.core.frame import OutgoingFrame, join_packets, join_sse, join_websocket
from tidings_hub.engine import http
from tidings_hub.engine.connection import UNLIMITED, Connection
from tidings_hub.engine.engineio import Kind
from tidings_hub.engine.interfaces import TRANSPORT_CLOSE

_write = runtime.original("os").write
_WEBSOCKET = Kind.WEBSOCKET


def deliver(connections: Iterable[Connection], frames: Sequence[OutgoingFrame]) -> int:
    """Fan-out: `frames`, in order, to each connection. How many connections took them.

    Joined once per kind of connection, and written with one send(2) each; a waiting poll
    gets a complete HTTP answer that is shared by all that need the same headers. What a
    kernel does not take waits in that connection's out-buffer, as a reference.
    """
    if not frames:
        return 0
    blob = join_websocket(frames)
    size = len(blob)
    others: _Others | None = None
    write = _write
    taken = 0
    # One write(2) per WebSocket is the only cost per recipient: nothing else belongs into this path.
    for connection in connections:
        if connection.kind is _WEBSOCKET and connection.out is None:
            try:
                written = write(connection.fd, blob)
            except (BlockingIOError, InterruptedError):
                written = 0
            except OSError:
                connection.end(TRANSPORT_CLOSE, 0)
                continue
            taken += 1
            if written != size:
                connection.keep(blob, written)
        elif not connection.closed:
            taken += 1
            if connection.kind is _WEBSOCKET:
                connection.write(blob)
                continue
            if others is None:
                others = _Others(frames)
            others.deliver(connection)
    return taken


class _Others:
    """One fan-out's bytes for polling and event streams, each form made at its first use."""

    __slots__ = ("_answers", "_events", "_frames", "_joined", "_now_s", "_packets", "_size")

    def __init__(self, frames: Sequence[OutgoingFrame]) -> None:
        self._frames = frames
        self._now_s = runtime.now_s()
        self._answers: dict[bytes, bytes] = {}
        self._joined: list[bytes] = []
        self._packets: list[bytes] = []
        self._size = 0
        self._events = b""

    def deliver(self, connection: Connection) -> None:
        if connection.kind is Kind.SSE:
            self._events = self._events or join_sse(self._frames)
            connection.write(self._events)
            return
        poll = connection.poll
        if connection.packets_max < len(self._frames):
            self._hold_each(connection)
            if poll is not None:
                connection.flush()
            return
        if poll is not None and connection.out is None:
            extra = poll.extra
            answer = self._answers.get(extra)
            if answer is None:
                answer = self._answers[extra] = http.response(200, join_packets(self._frames), extra=extra)
            connection.poll = None
            connection.answered_s = self._now_s
            poll.answer(answer)
            return
        if connection.packets_max < UNLIMITED:
            self._hold_each(connection)
            return
        # One part per turn, the same for all who wait: their next answers are alike, and made once (answers.py).
        if not self._joined:
            self._joined = [join_packets(self._frames)]
        connection.hold(self._joined, len(self._joined[0]))

    def _hold_each(self, connection: Connection) -> None:
        if not self._packets:
            self._packets = [frame.packet for frame in self._frames]
            self._size = sum(map(len, self._packets))
        connection.hold(self._packets, self._size)
