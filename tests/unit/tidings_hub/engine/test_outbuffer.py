"""The out-buffer on a real socket pair."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tidings_hub.engine.outbuffer import OutBuffer


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    sender, receiver = socket.socketpair()
    sender.settimeout(0)
    receiver.settimeout(5)
    with sender, receiver:
        yield sender, receiver


def test_partial_writes_keep_order_and_size(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = pair
    out, parts = OutBuffer(), [bytes([number]) * 7001 for number in range(250)]
    out.add_rest(b"##" + parts[0], 2)
    out.extend(parts[1:200], 7001 * 199)
    for part in parts[200:]:
        out.add(part)
    assert out.size == 7001 * 250
    received = b""
    while not out.flush(sender.fileno()):
        received += receiver.recv(1_000_000)
        assert out.size + out.sent == 7001 * 250
    sender.close()
    while data := receiver.recv(1_000_000):
        received += data
    assert received == b"".join(parts)
    assert (out.size, len(out.parts)) == (0, 0)


def test_keep_partial_discards_all_but_a_started_part(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, _ = pair
    out = OutBuffer()
    out.add(b"x" * 4_000_000)
    out.add(b"y" * 100)
    assert not out.flush(sender.fileno())
    unsent_size = out.size - 100
    out.keep_partial()
    assert out.size == unsent_size
    out.is_partial = False
    out.keep_partial()
    assert (out.size, len(out.parts)) == (0, 0)


def test_broken_connection_raises(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = pair
    receiver.close()
    out = OutBuffer()
    out.add(b"x")
    with pytest.raises(BrokenPipeError):
        out.flush(sender.fileno())
