"""The fan-out: send the same publications to many connections, with one write per connection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tidings_hub import runtime
from tidings_hub.core.frame import OutgoingFrame, as_chunk, join_packets, join_sse, join_websocket
from tidings_hub.engine.connection import Connection
from tidings_hub.engine.protocols import http_response
from tidings_hub.engine.protocols.engineio import TRANSPORT_CLOSE, TransportKind
from tidings_hub.engine.protocols.request_history import UNLIMITED
from tidings_hub.engine.sse_stream import SseStream

_write = runtime.original("os").write
_WEBSOCKET = TransportKind.WEBSOCKET
# Fewer frames are copied into one piece: that is faster than many small parts.
_REPLAY_MIN = 16


def deliver(connections: Iterable[Connection], frames: Sequence[OutgoingFrame]) -> int:
    """Send `frames`, in order, to each connection. Return how many connections were open.

    The frames are joined once per transport. Each WebSocket and event stream gets them with one write(2). Waiting
    polls that need the same headers get the same HTTP response, which is rendered once. Bytes that the kernel does not
    accept wait in the connection's out-buffer, which refers to the shared bytes and does not copy them.
    """
    if not frames:
        return 0
    blob = join_websocket(frames)
    size = len(blob)
    others: _PollingAndSse | None = None
    write = _write
    recipients = 0
    # One write(2) per WebSocket is the only cost per recipient. Do not add anything to this path.
    for connection in connections:
        if connection.kind is _WEBSOCKET and connection.out is None:
            try:
                written = write(connection.fd, blob)
            except (BlockingIOError, InterruptedError):
                written = 0
            except OSError:
                connection.end(TRANSPORT_CLOSE, 0)
                continue
            recipients += 1
            if written != size:
                connection.buffer_rest(blob, written)
        elif not connection.closed:
            recipients += 1
            if connection.kind is _WEBSOCKET:
                connection.write(blob)
                continue
            if others is None:
                others = _PollingAndSse(frames)
            others.deliver(connection)
    return recipients


def replay(connection: Connection, frames: Sequence[OutgoingFrame]) -> None:
    """Send `frames`, in order, to one connection, which shares them with connections of other calls.

    A slow client's out-buffer refers to the bytes of the frames. So thousands of clients that missed the same
    publications need their memory once.
    """
    if len(frames) < _REPLAY_MIN or connection.closed:
        deliver((connection,), frames)
        return
    if connection.kind is _WEBSOCKET:
        parts = [frame.websocket for frame in frames]
    elif isinstance(connection, SseStream):
        parts = [frame.chunk if connection.is_chunked else frame.sse for frame in frames]
    else:
        parts = [frame.packet for frame in frames]
    connection.cork()
    connection.buffer_packets(parts, sum(map(len, parts)))
    connection.uncork()


class _PollingAndSse:
    """The joined frames of one fan-out for polling sessions and event streams. Each form is created when needed."""

    __slots__ = ("_chunk", "_events", "_frames", "_joined", "_now_s", "_packets", "_responses", "_size")

    def __init__(self, frames: Sequence[OutgoingFrame]) -> None:
        self._frames = frames
        self._now_s = runtime.now_s()
        self._responses: dict[bytes, bytes] = {}
        self._joined: list[bytes] = []
        self._packets: list[bytes] = []
        self._size = 0
        self._events = self._chunk = b""

    def deliver(self, connection: Connection) -> None:
        if isinstance(connection, SseStream):
            self._events = self._events or join_sse(self._frames)
            if connection.is_chunked:
                self._chunk = self._chunk or as_chunk(self._events)
            connection.write(self._chunk if connection.is_chunked else self._events)
            return
        poll, history = connection.poll, connection.history
        if history.packets_max < len(self._frames) or history.needs_pings:
            self._buffer_each(connection)
            if poll is not None:
                connection.flush()
            return
        if poll is not None and connection.out is None:
            extra_headers = poll.extra_headers
            response = self._responses.get(extra_headers)
            if response is None:
                payload = join_packets(self._frames)
                response = http_response.render(200, payload, extra_headers=extra_headers)
                self._responses[extra_headers] = response
            connection.poll = None
            connection.last_response_s = self._now_s
            history.response = response
            poll.respond(response)
            return
        if history.packets_max < UNLIMITED:
            self._buffer_each(connection)
            return
        # All sessions without a waiting poll buffer the same joined part. So their next responses have the same bytes,
        # and poll_response_cache.py renders such a response once.
        if not self._joined:
            self._joined = [join_packets(self._frames)]
        connection.buffer_packets(self._joined, len(self._joined[0]))

    def _buffer_each(self, connection: Connection) -> None:
        if not self._packets:
            self._packets = [frame.packet for frame in self._frames]
            self._size = sum(map(len, self._packets))
        connection.buffer_packets(self._packets, self._size)
