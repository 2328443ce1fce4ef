"""The out-buffer on a real socket pair."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tidings_hub.engine.outbuffer import OutBuffer


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(0)
    theirs.settimeout(5)
    with ours, theirs:
        yield ours, theirs


def test_keeps_order_and_size_through_partial_writes(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    out, parts = OutBuffer(), [bytes([number]) * 7001 for number in range(250)]
    out.add_rest(b"##" + parts[0], 2)
    out.extend(parts[1:200], 7001 * 199)
    for part in parts[200:]:
        out.add(part)
    assert out.size == 7001 * 250
    received = b""
    while not out.flush(ours.fileno()):
        received += theirs.recv(1_000_000)
        assert out.size + out.sent == 7001 * 250
    ours.close()
    while data := theirs.recv(1_000_000):
        received += data
    assert received == b"".join(parts)
    assert (out.size, len(out.parts)) == (0, 0)


def test_keeps_only_what_was_begun(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = pair
    out = OutBuffer()
    out.add(b"x" * 4_000_000)
    out.add(b"y" * 100)
    assert not out.flush(ours.fileno())
    left = out.size - 100
    out.keep_partial()
    assert out.size == left
    out.is_partial = False
    out.keep_partial()
    assert (out.size, len(out.parts)) == (0, 0)


def test_a_broken_connection_is_an_error(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.close()
    out = OutBuffer()
    out.add(b"x")
    with pytest.raises(BrokenPipeError):
        out.flush(ours.fileno())
