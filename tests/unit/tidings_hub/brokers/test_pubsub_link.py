from __future__ import annotations

import socket
import threading
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tidings.redis_client.url import RedisAddress
from tidings_hub.brokers.pubsub_link import LinkDown, PubSubLink, message_bytes, pong_token


@pytest.mark.parametrize(
    ("item", "token"),
    [
        ([b"pong", b"b7"], b"b7"),
        (b"b7", b"b7"),
        ([b"message", b"channel", b"b7"], None),
        ([b"subscribe", b"channel", 1], None),
        (ValueError("an error reply"), None),
        (1, None),
    ],
)
def test_the_token_of_a_ping_reply(item: object, token: bytes | None) -> None:
    assert pong_token(item) == token


@pytest.mark.parametrize(
    ("item", "size"),
    [([b"message", b"channel", b"12345"], 5), ([b"subscribe", b"channel", 1], 0), ([b"pong", b"b7"], 0), (b"b7", 0)],
)
def test_only_messages_have_a_size(item: object, size: int) -> None:
    assert message_bytes(item) == size


class SlowRedis:
    """An address whose connections end at a peer that reads one byte at a time."""

    def __init__(self) -> None:
        self._peer, self.socket = socket.socketpair()
        self._peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def connect(self, *, timeout_s: float) -> Any:
        self.socket.settimeout(timeout_s)
        return SimpleNamespace(_sock=self.socket, disconnect=self.socket.close)

    def _read(self) -> None:
        while not self._is_closed.wait(0.02) and self._peer.recv(1):
            pass

    def close(self) -> None:
        self._is_closed.set()
        self._thread.join()
        self._peer.close()
        self.socket.close()


def test_lock_of_the_link_is_not_held_for_longer_than_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis reads so slowly that each part is in time. The other senders must not wait for all of it."""
    monkeypatch.setattr("tidings_hub.brokers.pubsub_link._SEND_TIMEOUT_S", 0.3)
    redis = SlowRedis()
    link = PubSubLink(cast("RedisAddress", redis), timeout_s=0.2, max_bytes=1000)
    outcomes: list[str] = []

    def subscribe() -> None:
        try:
            link.subscribe([b"x" * 100_000])
        except LinkDown as error:
            outcomes.append(str(error))

    began_s = time.monotonic()
    threads = [threading.Thread(target=subscribe) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert time.monotonic() - began_s < 3
    assert len(outcomes) == 3
    # A part of a command was sent, so the reader must open another link.
    with pytest.raises(LinkDown):
        link.read(0.1)
    redis.close()
