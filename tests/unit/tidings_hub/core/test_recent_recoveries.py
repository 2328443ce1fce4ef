"""What a node remembers of those who returned."""

from __future__ import annotations

from tidings_hub.core.recent_recoveries import RecentRecoveries


def test_a_doubt_concerns_who_returned_with_such_a_cursor_to_such_a_channel() -> None:
    returns = RecentRecoveries()
    returns.add(5, ["orders:1", "orders:2"], 10.0)
    assert returns.may_include(["orders:2", "orders:3"], 5, 9, 11.0)
    assert returns.may_include(["orders:1"], 1, 5, 11.0)
    assert not returns.may_include(["orders:1"], 6, 9, 11.0)
    assert not returns.may_include(["orders:1"], 1, 4, 11.0)
    assert not returns.may_include(["orders:3"], 1, 9, 11.0)


def test_what_was_forgotten_may_be_concerned() -> None:
    returns = RecentRecoveries(recoveries_max=2)
    returns.add(5, ["orders:1"], 10.0)
    assert not returns.may_include(["orders:2"], 1, 9, 11.0)
    returns.add(6, ["orders:1"], 11.0)
    assert returns.may_include(["orders:2"], 1, 9, 12.0)


def test_what_is_old_is_forgotten() -> None:
    returns = RecentRecoveries(recoveries_max=2, keep_s=60.0)
    returns.add(5, ["orders:1"], 10.0)
    returns.add(6, ["orders:1"], 40.0)
    assert not returns.may_include(["orders:1"], 5, 5, 71.0)
    assert returns.may_include(["orders:1"], 6, 6, 71.0)
