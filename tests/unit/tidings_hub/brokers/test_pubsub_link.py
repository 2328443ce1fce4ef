from __future__ import annotations

import pytest

from tidings_hub.brokers.pubsub_link import message_bytes, pong_token


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
