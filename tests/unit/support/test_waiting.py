"""A wait that fails describes the state at its end."""

from __future__ import annotations

import pytest

from support.waiting import wait_until


def test_reason_of_a_failed_wait_is_read_at_its_end() -> None:
    calls: list[int] = []

    def condition() -> bool:
        calls.append(1)
        return False

    with pytest.raises(AssertionError) as failure:
        wait_until(condition, within_s=0.03, why=lambda: f"{len(calls)} calls")
    assert str(failure.value) == f"not within 0.03 s: {len(calls)} calls"
    assert len(calls) > 1
