"""What the replies of the scripts mean, and what is no reply of theirs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.limits import broker_limits
from tidings.errors import Unavailable
from tidings.redis_client.keys import RedisKeys
from tidings.wire.cursor import Cursor
from tidings_hub.brokers.base import ChannelSnapshot
from tidings_hub.brokers.lookup_script import (
    ComparisonRequest,
    LookupRequest,
    pack_comparison,
    pack_lookup,
    read_comparison,
    read_history,
    read_lookup,
    read_position,
)

LIMITS = broker_limits(message_max_bytes=100)
LOOK = LookupRequest(["orders:1", "orders:2"], {"orders:1": 5})


def message(seq: int, epoch: str = "e", data: str = "1") -> bytes:
    return f't1 {seq} 5 {epoch} id 1 - 3 "x",{data}'.encode()


def test_pointers_and_messages() -> None:
    doubts = [b"02 6", b"2 3 6 6", b"1 1", None]
    past = read_lookup(LOOK, [b"e", b"9", b"3", [b"8", [message(8)], doubts], [None, [], None]], LIMITS)
    assert past.position == Cursor("e", 9)
    assert past.channels["orders:2"] == ChannelSnapshot(None, [])
    assert past.channels["orders:1"].last == 8
    assert past.channels["orders:1"].doubted == ((2, 3), (6, 6), (1, 1))
    assert [entry.seq for entry in past.channels["orders:1"].publications] == [8]


def test_channel_without_a_pointer_has_the_horizon() -> None:
    past = read_lookup(LOOK, [b"e", b"9", b"0", [b"-7", [], None], [b"-0", [], None]], LIMITS)
    assert past.channels["orders:1"] == ChannelSnapshot(None, [], quiet_since=7)
    assert past.channels["orders:2"] == ChannelSnapshot(None, [], quiet_since=0)


def test_newest_publications_are_put_in_order_and_unread_channels_are_marked() -> None:
    request = replace(LOOK, channel_bytes_max=500)
    past = read_lookup(request, [b"e", b"9", b"3", [b"9", [message(9), message(8)], None], [b"7", None, None]], LIMITS)
    assert [entry.seq for entry in past.channels["orders:1"].publications] == [8, 9]
    assert [past.channels[name].is_unread for name in LOOK.channels] == [False, True]


def test_foreign_entries_count_as_missing() -> None:
    stored = [b"", b"pickle", message(6, "old"), message(7, data="2" * 200), message(8)]
    past = read_lookup(LOOK, [b"e", b"9", b"0", [b"8", stored, None], [b"1", [], None]], LIMITS)
    assert [entry.seq for entry in past.channels["orders:1"].publications] == [8]


@pytest.mark.parametrize("reply", [None, 1, [], [b"e", b"9"], [b"e", 9, [b"1", []], [b"1", []]], [b"e", b"9", 1, 2]])
def test_unexpected_replies_are_errors(reply: object) -> None:
    with pytest.raises(Unavailable):
        read_lookup(LOOK, reply, LIMITS)


def test_error_reply_raises_unavailable() -> None:
    with pytest.raises(Unavailable, match="NOPERM"):
        read_position(Exception("NOPERM this user has no permissions"))


def test_a_page_is_in_order_of_seq() -> None:
    position, page = read_history("orders:1", [b"e", b"9", [message(9), message(7)]], LIMITS)
    assert (position.seq, [entry.seq for entry in page]) == (9, [7, 9])


def test_lookup_reads_after_the_given_seqs_only() -> None:
    packed = pack_lookup(RedisKeys("p:"), LOOK, LIMITS)
    assert packed.endswith(b"$1\r\n-\r\n$1\r\n5\r\n$1\r\n-\r\n")
    assert packed.index(b"p:{0}:p:orders:1") < packed.index(b"p:{0}:s:orders:1") < packed.index(b"p:{0}:p:orders:2")


def test_comparison_returns_the_channels_that_moved_or_have_no_pointer() -> None:
    request = ComparisonRequest(["orders:1", "orders:2", "orders:3"], {"orders:1": 5})
    moved, undecided = read_comparison(request, [b"e", b"9", b"3", [0, b"8"], [1, b"-4"], [2, None]])
    assert (moved.position, moved.doubts) == (Cursor("e", 9), 3)
    assert moved.channels == {
        "orders:1": ChannelSnapshot(8, []),
        "orders:2": ChannelSnapshot(None, [], quiet_since=4),
    }
    assert undecided == ["orders:3"]


def test_comparison_has_the_seq_of_channels_that_are_tracked() -> None:
    request = ComparisonRequest(["orders:1", "orders:2"], {"orders:1": 5}, refresh=True)
    packed = pack_comparison(RedisKeys("p:"), request, LIMITS)
    assert packed.endswith(b"$1\r\n1\r\n$1\r\n5\r\n$1\r\n-\r\n")
    assert packed.index(b"p:{0}:p:orders:1") < packed.index(b"p:{0}:s:orders:1") < packed.index(b"p:{0}:p:orders:2")


@pytest.mark.parametrize(
    "reply", [None, 1, [], [b"e", b"9"], [b"e", b"9", 1], [b"e", b"9", b"1", [b"1"]], [b"e", b"9", b"1", [2, b"1"]]]
)
def test_unexpected_replies_of_a_comparison_are_errors(reply: object) -> None:
    with pytest.raises(Unavailable):
        read_comparison(ComparisonRequest(["orders:1"]), reply)
