from __future__ import annotations

import pytest

from tidings.errors import BadChannel
from tidings_hub.core.compat.channel_mapping import ChannelMapping

PREFIXES = {"private-": "orders:", "private-chat-": "chat:", "presence-": "chat:at-"}


@pytest.mark.parametrize(
    ("name", "channel"),
    [
        ("lobby", "pusher:lobby"),
        ("orders:42", "orders:42"),
        ("private-42", "orders:42"),
        ("private-chat-7", "chat:7"),
        ("presence-7", "chat:at-7"),
        ("private-chat-a:b", "chat:a:b"),
    ],
)
def test_the_longest_prefix_then_the_name_then_the_namespace(name: str, channel: str) -> None:
    assert ChannelMapping("pusher", PREFIXES).to_channel(name) == channel


@pytest.mark.parametrize("name", ["", None, 7, [], "a b", "a,b", "private-", ":", "orders:", ":42", "a#b", "x" * 300])
def test_invalid_channel_name_is_an_error(name: object) -> None:
    with pytest.raises(BadChannel):
        ChannelMapping("pusher", PREFIXES).to_channel(name)


def test_without_a_namespace_a_name_must_have_one() -> None:
    with pytest.raises(BadChannel, match="set a namespace"):
        ChannelMapping().to_channel("lobby")
