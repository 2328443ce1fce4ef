"""Doubts can widen, and none is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tidings_hub.core.doubts import RANGES_MAX, Doubts


def test_a_doubt_covers_both_ends_of_its_range() -> None:
    doubts = Doubts()
    doubts.add("orders:1", 5, 7)
    assert [doubts.covers("orders:1", seq) for seq in (4, 5, 7, 8)] == [False, True, True, False]
    assert not doubts.covers("orders:2", 5)


def test_an_empty_range_adds_no_doubt() -> None:
    doubts = Doubts()
    doubts.add("orders:1", 7, 6)
    assert len(doubts) == 0


def test_new_epoch_clears_doubts() -> None:
    doubts = Doubts(channels_max=1)
    doubts.add("orders:1", 1, 2)
    doubts.add("orders:2", 3, 4)
    doubts.clear()
    assert not any(doubts.covers("orders:1", seq) for seq in range(6))


def test_beyond_the_limit_the_oldest_doubt_covers_every_channel() -> None:
    doubts = Doubts(channels_max=1)
    assert not doubts.add("orders:1", 1, 2)
    assert doubts.add("orders:2", 5, 6)
    assert len(doubts) == 1
    assert doubts.covers("orders:1", 1)
    assert doubts.covers("orders:9", 2)
    assert not doubts.covers("orders:9", 5)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 100), st.integers(0, 10)), max_size=80))
def test_doubted_cursor_stays_doubted(added: list[tuple[str, int, int]]) -> None:
    doubts = Doubts(channels_max=3)
    for channel, first, more in added:
        doubts.add(channel, first, first + more)
    assert len(doubts) <= 3
    for channel, first, more in added:
        assert doubts.covers(channel, first)
        assert doubts.covers(channel, first + more)


def test_cursors_between_two_ranges_are_trusted() -> None:
    doubts = Doubts()
    doubts.add("orders:1", 5, 7)
    doubts.add("orders:1", 11, 12)
    assert [seq for seq in range(15) if doubts.covers("orders:1", seq)] == [5, 6, 7, 11, 12]


def test_beyond_the_limit_of_ranges_the_two_oldest_become_one() -> None:
    doubts = Doubts()
    for number in range(RANGES_MAX + 1):
        doubts.add("orders:1", 10 * number, 10 * number + 1)
    trusted = {seq for seq in range(10 * RANGES_MAX) if not doubts.covers("orders:1", seq)}
    assert trusted == {10 * number + more for number in range(1, RANGES_MAX) for more in range(2, 10)}
