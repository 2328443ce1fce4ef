"""Event streams on a real socket: chunks for HTTP/1.1, none for HTTP/1.0."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from select import EPOLLOUT

import pytest

from support.engine_mount import engine_mount
from support.limits import engine_limits
from tidings.wire.publication import Publication
from tidings_hub.core.delivery_reports import CursorFrame
from tidings_hub.core.frame import LAST_CHUNK, Frame, as_chunk, join_sse
from tidings_hub.engine.fanout import deliver, replay
from tidings_hub.engine.mount import Mount
from tidings_hub.engine.sse_stream import SseStream

RETRY = b"retry: 3000\n\n"
FRAMES = [
    Frame(Publication("orders:1", seq, seq - 1, "e", f"id{seq}", 1, "-", 3, b'"x","%b"' % (b"d" * 2_000)))
    for seq in range(1, 201)
]


@pytest.fixture
def mount() -> Mount:
    return engine_mount()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    server, client = socket.socketpair()
    server.setblocking(False)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192)
    client.settimeout(5)
    with server, client:
        yield server, client


def open_stream(mount: Mount, server: socket.socket, *, is_chunked: bool) -> SseStream:
    fd = server.detach()
    stream = SseStream(mount, "sid", "here", fd=fd, extra_headers=b"", is_chunked=is_chunked)
    mount.pump.add(fd, stream)
    return stream


def receive(stream: SseStream, client: socket.socket, size: int) -> bytes:
    """The first `size` bytes behind the head."""
    received = b""
    while len(received.partition(b"\r\n\r\n")[2]) < size:
        received += client.recv(65_536)
        stream.flush()
    return received.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("frames", [FRAMES[:3], FRAMES], ids=["few", "many"])
def test_stream_of_http_1_1_consists_of_complete_chunks(
    mount: Mount, pair: tuple[socket.socket, socket.socket], frames: list[Frame]
) -> None:
    stream = open_stream(mount, pair[0], is_chunked=True)
    stream.send("event: early\n\n")
    stream.accept()
    replay(stream, frames)
    deliver([stream], [CursorFrame(frames[-1].publication)])
    deliver([stream], frames[-2:])
    replayed = as_chunk(join_sse(frames)) if len(frames) == 3 else b"".join(frame.chunk for frame in frames)
    expected = as_chunk(RETRY) + as_chunk(b"event: early\n\n") + replayed + as_chunk(join_sse(frames[-2:]))
    assert receive(stream, pair[1], len(expected)) == expected


@pytest.mark.parametrize("frames", [FRAMES[:3], FRAMES], ids=["few", "many"])
def test_stream_of_http_1_0_has_no_chunks(
    mount: Mount, pair: tuple[socket.socket, socket.socket], frames: list[Frame]
) -> None:
    stream = open_stream(mount, pair[0], is_chunked=False)
    stream.accept()
    replay(stream, frames)
    deliver([stream], frames[-2:])
    expected = RETRY + join_sse([*frames, *frames[-2:]])
    assert receive(stream, pair[1], len(expected)) == expected


def test_slow_client_receives_the_rest_of_its_chunks_and_the_last_one(
    mount: Mount, pair: tuple[socket.socket, socket.socket]
) -> None:
    stream = open_stream(mount, pair[0], is_chunked=True)
    fd = stream.fd
    stream.accept()
    mount.limits = engine_limits(out_buffer_bytes=100_000)
    for frame in FRAMES:
        deliver([stream], [frame])
    assert mount.metrics.closed_slow == 1
    body = receive(stream, pair[1], 1)
    while not body.endswith(LAST_CHUNK):
        mount.pump._table[fd].on_event(EPOLLOUT)
        body += pair[1].recv(65_536)
    sent = b"".join(frame.chunk for frame in FRAMES)
    rest = body.removeprefix(as_chunk(RETRY)).removesuffix(LAST_CHUNK)
    assert sent.startswith(rest)
    assert rest.endswith(b"\n\n\r\n")


def test_refused_stream_gets_one_response(mount: Mount, pair: tuple[socket.socket, socket.socket]) -> None:
    stream = open_stream(mount, pair[0], is_chunked=True)
    stream.send("event: early\n\n")
    stream.refuse("forbidden", "no")
    stream.accept()
    assert stream.closed
    response = pair[1].recv(65_536)
    assert response.startswith(b"HTTP/1.1 403 ")
    assert response.endswith(b'\r\n\r\n{"error": {"code": "forbidden", "message": "no"}}')
