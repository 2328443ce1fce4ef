from __future__ import annotations

import random

import pytest

from tidings.backoff import delay_s


def test_the_ceiling_doubles_until_the_cap() -> None:
    highest = [delay_s(attempt, base_s=1.0, cap_s=10.0, random=lambda: 1.0) for attempt in range(6)]
    assert highest == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_the_draw_comes_after_the_cap() -> None:
    draw = random.Random(1).random
    delays = [delay_s(40, base_s=1.0, cap_s=10.0, random=draw) for _ in range(1000)]
    assert len(set(delays)) == 1000
    assert min(delays) < 1.0
    assert max(delays) < 10.0
    assert 4.5 < sum(delays) / 1000 < 5.5


def test_shortest_delay_is_zero() -> None:
    assert delay_s(3, random=lambda: 0.0) == 0.0


def test_high_attempt_number_does_not_overflow() -> None:
    assert delay_s(10**9, base_s=0.5, cap_s=20.0, random=lambda: 1.0) == 20.0


def test_negative_attempt_is_rejected() -> None:
    with pytest.raises(ValueError, match="-1 is negative"):
        delay_s(-1)
