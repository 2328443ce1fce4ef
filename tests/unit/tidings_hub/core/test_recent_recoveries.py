"""Recent recoveries of a node."""

from __future__ import annotations

import tracemalloc

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
