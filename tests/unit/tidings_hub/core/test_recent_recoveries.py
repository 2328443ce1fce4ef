"""Recent recoveries of a node."""

from __future__ import annotations

from tidings_hub.core.recent_recoveries import RecentRecoveries


def test_recoveries_are_found_by_cursor_and_channel() -> None:
    recoveries = RecentRecoveries()
    recoveries.add(5, ["orders:1", "orders:2"], 10.0)
    assert recoveries.may_include(["orders:2", "orders:3"], 5, 9, 11.0)
    assert recoveries.may_include(["orders:1"], 1, 5, 11.0)
    assert not recoveries.may_include(["orders:1"], 6, 9, 11.0)
    assert not recoveries.may_include(["orders:1"], 1, 4, 11.0)
    assert not recoveries.may_include(["orders:3"], 1, 9, 11.0)


def test_dropped_recoveries_may_be_affected() -> None:
    recoveries = RecentRecoveries(recoveries_max=2)
    recoveries.add(5, ["orders:1"], 10.0)
    assert not recoveries.may_include(["orders:2"], 1, 9, 11.0)
    recoveries.add(6, ["orders:1"], 11.0)
    assert recoveries.may_include(["orders:2"], 1, 9, 12.0)


def test_old_recoveries_are_removed() -> None:
    recoveries = RecentRecoveries(recoveries_max=2, keep_s=60.0)
    recoveries.add(5, ["orders:1"], 10.0)
    recoveries.add(6, ["orders:1"], 40.0)
    assert not recoveries.may_include(["orders:1"], 5, 5, 71.0)
    assert recoveries.may_include(["orders:1"], 6, 6, 71.0)
