"""The replay of missed publications, on a connection with a real socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from itertools import islice

import pytest

from support.engine_mount import engine_mount
from support.limits import engine_limits
from tidings.wire.publication import Publication
from tidings_hub.core.frame import Frame, join_websocket
from tidings_hub.engine.connection import Connection
from tidings_hub.engine.fanout import replay
from tidings_hub.engine.mount import Mount
from tidings_hub.engine.protocols.engineio import TransportKind

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


def open_socket(mount: Mount, server: socket.socket) -> Connection:
    connection = Connection(mount, "sid", TransportKind.WEBSOCKET, "here", fd=server.fileno())
    mount.pump.add(server.fileno(), connection)
    return connection


def test_slow_client_receives_a_replay_in_order(mount: Mount, pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    connection = open_socket(mount, server)
    replay(connection, FRAMES)
    expected, received = join_websocket(FRAMES), b""
    while len(received) < len(expected):
        received += client.recv(65_536)
        connection.flush()
    assert received == expected
    assert connection.out is None


def test_out_buffer_of_a_slow_client_refers_to_the_shared_frames(
    mount: Mount, pair: tuple[socket.socket, socket.socket]
) -> None:
    connection = open_socket(mount, pair[0])
    replay(connection, FRAMES)
    assert connection.out is not None
    waiting = list(connection.out.parts)
    shared = [frame.websocket for frame in FRAMES[-len(waiting) :]]
    # The first one may be sent in part.
    assert len(waiting) > 100
    assert all(part is frame for part, frame in islice(zip(waiting, shared, strict=True), 1, None))


def test_replay_beyond_the_out_buffer_closes_the_client_as_slow(
    mount: Mount, pair: tuple[socket.socket, socket.socket]
) -> None:
    mount.limits = engine_limits(out_buffer_bytes=100_000)
    connection = open_socket(mount, pair[0])
    replay(connection, FRAMES)
    assert connection.closed
    assert mount.metrics.closed_slow == 1


def test_polling_client_receives_a_replay_with_its_next_poll(mount: Mount) -> None:
    connection = Connection(mount, "sid", TransportKind.POLLING, "here")
    replay(connection, FRAMES)
    assert connection.out is not None
    assert all(part is frame.packet for part, frame in zip(connection.out.parts, FRAMES, strict=True))


def test_closed_client_receives_nothing(mount: Mount) -> None:
    connection = Connection(mount, "sid", TransportKind.POLLING, "here")
    connection.closed = True
    replay(connection, FRAMES)
    assert connection.out is None
