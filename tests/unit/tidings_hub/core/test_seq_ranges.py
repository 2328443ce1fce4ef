"""Ranges of seq are the set of their numbers, in the fewest ranges."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tidings_hub.core.seq_ranges import SeqRange, covers, with_range, without_ranges

ONE = st.tuples(st.integers(0, 30), st.integers(0, 8)).map(lambda pair: (pair[0], pair[0] + pair[1]))


def numbers(first: int, last: int) -> set[int]:
    return set(range(first, last + 1))


def joined(added: list[SeqRange]) -> list[SeqRange]:
    ranges: list[SeqRange] = []
    for first, last in added:
        ranges = with_range(ranges, first, last)
    return ranges


@given(st.lists(ONE, max_size=12))
def test_ranges_have_exactly_the_numbers_that_were_added(added: list[SeqRange]) -> None:
    ranges = joined(added)
    expected = set[int]().union(*(numbers(*known) for known in added))
    assert {seq for seq in range(50) if covers(ranges, seq)} == expected
    assert all(first <= last for first, last in ranges)
    assert all(earlier[1] + 1 < later[0] for earlier, later in pairwise(ranges))


@given(ONE, st.lists(ONE, max_size=8))
def test_what_remains_of_a_range_is_in_none_of_the_others(whole: SeqRange, others: list[SeqRange]) -> None:
    parts = without_ranges(*whole, joined(others))
    expected = numbers(*whole).difference(*(numbers(*other) for other in others))
    assert [seq for part in parts for seq in range(part[0], part[1] + 1)] == sorted(expected)
