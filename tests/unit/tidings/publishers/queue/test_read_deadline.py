"""A server that sends its AMQP answers a byte at a time: each read is short, all of them together have no end."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from support.network.scripted_server import Peer, ScriptedServer
from tidings.publishers.queue.address import QueueAddress
from tidings.publishers.queue.connection import QueueMessage, QueueProducer
from tidings.redis_client.connection import ConnectionLost

TIMEOUT_S = 1.0
# Without the deadline a frame takes this long: a byte in 20 ms.
ENDLESS_BYTES = 3_000
ENDLESS_S = ENDLESS_BYTES * 0.02


def method(channel: int, class_id: int, method_id: int, arguments: bytes) -> bytes:
    """One AMQP method frame (AMQP 0-9-1 section 2.3.5)."""
    payload = struct.pack(">HH", class_id, method_id) + arguments
    return struct.pack(">BHI", 1, channel, len(payload)) + payload + b"\xce"


def long_string(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text


def start(locales: bytes = b"en_US") -> bytes:
    """Connection.Start with an empty table of properties."""
    return method(0, 10, 10, b"\x00\x09" + struct.pack(">I", 0) + long_string(b"PLAIN") + long_string(locales))


TUNE = method(0, 10, 30, struct.pack(">HIH", 2047, 131_072, 0))
CONNECTION_OPEN_OK = method(0, 10, 41, b"\x00")
CHANNEL_OPEN_OK = method(1, 20, 11, long_string(b""))
CONFIRM_OK = method(1, 85, 11, b"")


def log_in(peer: Peer) -> None:
    """Answer as a server that accepts everything. py-amqp reads one frame after the other."""
    peer.await_input()
    peer.send(start() + TUNE + CONNECTION_OPEN_OK)


def drip_login(peer: Peer) -> None:
    # As every AMQP server. py-amqp cannot set its socket's options once data has arrived.
    peer.await_input()
    peer.drip(start(b"x" * ENDLESS_BYTES))


def drip_channel(peer: Peer) -> None:
    log_in(peer)
    peer.drip(method(1, 20, 11, long_string(b"x" * ENDLESS_BYTES)))


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer(drip_login).start()
    with closing(scripted):
        yield scripted


def address_of(server: ScriptedServer) -> QueueAddress:
    return QueueAddress.parse(f"amqp://u:p@127.0.0.1:{server.port}/?queue=q")


@pytest.mark.parametrize("script", [drip_login, drip_channel])
def test_connect_ends_in_time(server: ScriptedServer, script: Callable[[Peer], None]) -> None:
    server.script = script
    start_s = time.monotonic()
    with pytest.raises(ConnectionLost, match="time"):
        QueueProducer(address_of(server), timeout_s=TIMEOUT_S)
    assert TIMEOUT_S / 2 < time.monotonic() - start_s < ENDLESS_S / 4


def test_publish_ends_in_time(server: ScriptedServer) -> None:
    def drip_confirm(peer: Peer) -> None:
        log_in(peer)
        peer.send(CHANNEL_OPEN_OK + CONFIRM_OK)
        peer.drip(method(1, 60, 80, b"\x00" * ENDLESS_BYTES))

    server.script = drip_confirm
    producer = QueueProducer(address_of(server), timeout_s=30.0)
    start_s = time.monotonic()
    with pytest.raises(ConnectionLost):
        producer.send([QueueMessage("q", b"body", "id")], deadline_s=start_s + TIMEOUT_S)
    assert time.monotonic() - start_s < ENDLESS_S / 4


def test_time_of_the_login_does_not_limit_what_comes_after_it(server: ScriptedServer) -> None:
    def answer_late(peer: Peer) -> None:
        log_in(peer)
        peer.send(CHANNEL_OPEN_OK + CONFIRM_OK)
        peer.wait(1.5 * TIMEOUT_S)
        peer.send(method(1, 60, 80, struct.pack(">QB", 1, 0)))
        peer.wait(60)

    server.script = answer_late
    producer = QueueProducer(address_of(server), timeout_s=TIMEOUT_S)
    assert producer.send([QueueMessage("q", b"body", "id")], deadline_s=time.monotonic() + 30.0) == {}
    producer.drop()


def test_addresses_of_one_name_share_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first addresses accept nothing: their backlog is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        port = listening.getsockname()[1]
        filler = [socket.socket() for _ in range(8)]
        for waiting in filler:
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        hanging: list[Any] = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))] * 6
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: hanging)
        start_s = time.monotonic()
        with pytest.raises(ConnectionLost):
            QueueProducer(QueueAddress.parse(f"amqp://u:p@127.0.0.1:{port}/?queue=q"), timeout_s=TIMEOUT_S)
        assert time.monotonic() - start_s < 2 * TIMEOUT_S
        for waiting in filler:
            waiting.close()
