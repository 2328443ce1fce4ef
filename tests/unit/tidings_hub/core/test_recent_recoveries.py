"""Recent recoveries of a node."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from tidings_hub.core.recent_recoveries import RecentRecoveries


def test_recoveries_are_found_by_cursor_and_channel() -> None:
    recoveries = RecentRecoveries()
    recoveries.add(5, ["orders:1", "orders:2"], 10.0)
    assert recoveries.may_include(["orders:2", "orders:3"], 5, 9, 11.0)
    assert recoveries.may_include(["orders:1"], 1, 5, 11.0)
    assert not recoveries.may_include(["orders:1"], 6, 9, 11.0)
    assert not recoveries.may_include(["orders:1"], 1, 4, 11.0)
    assert not recoveries.may_include(["orders:3"], 1, 9, 11.0)


def test_dropped_recoveries_may_be_affected_until_they_would_be_old() -> None:
    recoveries = RecentRecoveries(recoveries_max=2, keep_s=60.0)
    recoveries.add(5, ["orders:1"], 10.0)
    recoveries.add(6, ["orders:1"], 11.0)
    assert not recoveries.may_include(["orders:2"], 1, 9, 12.0)
    recoveries.add(7, ["orders:1"], 12.0)
    assert recoveries.may_include(["orders:2"], 1, 9, 70.0)
    assert not recoveries.may_include(["orders:2"], 1, 9, 71.0)


def test_channels_of_all_recoveries_are_bounded() -> None:
    recoveries = RecentRecoveries(channels_max=4, keep_s=60.0)
    recoveries.add(5, ["orders:1", "orders:2"], 10.0)
    recoveries.add(6, ["orders:1", "orders:2"], 11.0)
    assert not recoveries.may_include(["orders:3"], 1, 9, 12.0)
    recoveries.add(7, ["orders:1"], 12.0)
    assert recoveries.may_include(["orders:3"], 1, 9, 13.0)


def test_names_that_clients_chose_take_no_memory() -> None:
    recoveries = RecentRecoveries()
    tracemalloc.start()
    try:
        for seq in range(100):
            recoveries.add(seq, [f"chat:{number:0190}" for number in range(100)], 10.0)
        size_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The names would take 2.4 MB.
    assert size_bytes < 200_000


def test_old_recoveries_are_removed() -> None:
    recoveries = RecentRecoveries(recoveries_max=2, keep_s=60.0)
    recoveries.add(5, ["orders:1"], 10.0)
    recoveries.add(6, ["orders:1"], 40.0)
    assert not recoveries.may_include(["orders:1"], 5, 5, 71.0)
    assert recoveries.may_include(["orders:1"], 6, 6, 71.0)


class _CountedSeq(int):
    """A seq that counts how often it is compared."""

    comparisons = 0

    def __lt__(self, other: int) -> bool:
        _CountedSeq.comparisons += 1
        return int(self) < other

    def __le__(self, other: int) -> bool:
        _CountedSeq.comparisons += 1
        return int(self) <= other

    def __gt__(self, other: int) -> bool:
        _CountedSeq.comparisons += 1
        return int(self) > other

    def __ge__(self, other: int) -> bool:
        _CountedSeq.comparisons += 1
        return int(self) >= other

    def __eq__(self, other: object) -> bool:
        _CountedSeq.comparisons += 1
        return int(self) == other

    __hash__ = int.__hash__


def test_a_range_is_not_compared_with_every_recovery() -> None:
    """A node whose link broke stores a range for each of its channels, and every node looks all of them up."""
    recoveries = RecentRecoveries()
    for seq in range(1_000):
        recoveries.add(_CountedSeq(seq), ["orders:1"], 10.0)
    _CountedSeq.comparisons = 0
    assert not recoveries.may_include(["orders:1"], 2_000, 3_000, 11.0)
    assert recoveries.may_include(["orders:1"], 999, 3_000, 11.0)
    assert not recoveries.may_include(["orders:2"], 999, 3_000, 11.0)
    assert _CountedSeq.comparisons < 200


@given(
    st.lists(st.tuples(st.integers(0, 9), st.lists(st.sampled_from("abc"), max_size=2), st.integers(0, 5))),
    st.sampled_from("abc"),
    st.integers(0, 9),
    st.integers(0, 9),
)
def test_ranges_find_what_a_search_of_all_recoveries_finds(
    added: list[tuple[int, list[str], int]], channel: str, first: int, last: int
) -> None:
    recoveries, now_s = RecentRecoveries(keep_s=10.0), 0.0
    recovered: list[tuple[float, int, list[str]]] = []
    for seq, channels, pause_s in added:
        now_s += pause_s
        recoveries.add(seq, channels, now_s)
        recovered.append((now_s, seq, channels))
        is_included = any(
            at_s >= now_s - 10.0 and first <= seq <= last and channel in channels for at_s, seq, channels in recovered
        )
        assert recoveries.may_include([channel], first, last, now_s) == is_included
