"""What Redis stores of doubts: exactly the doubted cursors up to its bounds, and beyond them more, never fewer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.doubts.doubts_in_redis import DoubtsInRedis
from support.processes.redis import RedisProcess
from tidings.redis_client.keys import RedisKeys
from tidings.redis_client.url import RedisAddress
from tidings_hub.core.doubts import EVERYWHERE, RANGES_MAX

NAMES = ("orders:1", "orders:2", "tidings:presence:orders:3", "orders:4")
Open = Callable[[int], DoubtsInRedis]


@pytest.fixture
def open_doubts(shared_redis: RedisProcess) -> Iterator[Open]:
    opened: list[DoubtsInRedis] = []

    def open_doubts(channels_max: int) -> DoubtsInRedis:
        keys = RedisKeys(f"{uuid4().hex}:")
        opened.append(DoubtsInRedis(RedisAddress.parse(shared_redis.url), keys, channels_max))
        return opened[-1]

    yield open_doubts
    for doubts in opened:
        doubts.close()


LOSSES = st.lists(st.tuples(st.integers(0, 9), st.sampled_from(NAMES), st.integers(0, 14)), max_size=14)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUICK
@given(LOSSES)
def test_exactly_the_doubted_cursors_are_doubted(open_doubts: Open, losses: list[tuple[int, str, int]]) -> None:
    doubts = open_doubts(100)
    for count, name, back in losses[:RANGES_MAX]:
        doubts.publish(count)
        doubts.doubt((name, back))
    assert list(doubts.problems(NAMES)) == []
    for name in NAMES:
        assert doubts.read(name, 0) == doubts.expected(name)


@QUICK
@given(st.integers(1, 5), LOSSES, st.lists(st.sampled_from([*NAMES, EVERYWHERE, None]), max_size=5))
def test_no_doubted_cursor_is_trusted_beyond_any_bound(
    open_doubts: Open, channels_max: int, losses: list[tuple[int, str, int]], old: list[str | None]
) -> None:
    doubts = open_doubts(channels_max)
    for number, (count, name, back) in enumerate(losses):
        doubts.publish(count)
        doubts.doubt((name, back), (NAMES[0], back // 2))
        old_name = old[number] if number < len(old) else None
        if old_name is not None:
            # It lies within what is doubted, or not.
            first = max(0, doubts.seq - 3 * back - 5)
            doubts.doubt_as_old_node(old_name, first, min(first + back, doubts.seq))
    assert list(doubts.problems(NAMES)) == []
    names = [field for field in doubts.fields() if field not in {"@", "#", "*", "/*"}]
    assert len(names) <= channels_max
    for name in (*NAMES, EVERYWHERE):
        assert sum(channel == name for channel, _, _ in doubts.stored().ranges) <= RANGES_MAX


def test_beyond_the_bound_of_ranges_the_two_oldest_become_one(open_doubts: Open) -> None:
    doubts = open_doubts(100)
    for _ in range(RANGES_MAX + 1):
        doubts.publish(10)
        doubts.doubt(("orders:1", 2))
    ranges = [(first, last) for _, first, last in doubts.stored().ranges]
    assert ranges == [(8, 21), *((11 * number - 3, 11 * number - 1) for number in range(3, RANGES_MAX + 2))]


def test_ranges_take_only_the_room_that_channels_leave(open_doubts: Open) -> None:
    doubts = open_doubts(3)
    for name in ("orders:1", "orders:1", "orders:2", "orders:2"):
        doubts.publish(10)
        doubts.doubt((name, 1))
    # The second channel had no room for its two ranges, so it has their span.
    assert [name for name, _, _ in doubts.stored().ranges].count("orders:1") == 2
    assert [name for name, _, _ in doubts.stored().ranges].count("orders:2") == 1
    doubts.publish(10)
    doubts.doubt(("orders:4", 1))
    assert sorted(doubts.fields()) == ["#", "@", "orders:1", "orders:2", "orders:4"]
    assert list(doubts.problems(NAMES)) == []


def test_range_for_all_channels_leaves_out_what_came_before_its_channels(open_doubts: Open) -> None:
    doubts = open_doubts(1)
    for _ in range(2):
        for name in ("orders:1", "orders:2"):
            doubts.publish(10)
            doubts.doubt((name, 1))
    assert list(doubts.problems(NAMES)) == []
    assert doubts.stored().ranges == [(EVERYWHERE, 9, 21), (EVERYWHERE, 31, 43)]
    assert doubts.read("orders:9", 20) == {20, 21, *range(31, 44)}
    assert doubts.read("orders:9", 44) == set()


def test_doubts_of_an_old_node_end_the_ranges_of_their_channel(open_doubts: Open) -> None:
    """A node of version 0.1 doubts cursors between two ranges. The span that it writes is the same as before."""
    doubts = open_doubts(100)
    for _ in range(2):
        doubts.publish(10)
        doubts.doubt(("orders:1", 1))
    assert doubts.fields()["/orders:1"] == "9 10 20 21"
    assert doubts.read("orders:1", 0) == {9, 10, 20, 21}
    doubts.doubt_as_old_node("orders:1", 14, 15)
    assert doubts.read("orders:1", 0) == set(range(9, 22))
    doubts.publish(10)
    doubts.doubt(("orders:1", 1))
    assert doubts.read("orders:1", 0) == {*range(9, 22), 31, 32}


def test_new_epoch_begins_without_ranges(open_doubts: Open) -> None:
    doubts = open_doubts(100)
    for _ in range(2):
        doubts.publish(10)
        doubts.doubt(("orders:1", 1))
    doubts.begin_epoch()
    doubts.publish(10)
    doubts.doubt(("orders:2", 1))
    assert sorted(doubts.fields()) == ["#", "@", "orders:2"]
    assert list(doubts.problems(NAMES)) == []
