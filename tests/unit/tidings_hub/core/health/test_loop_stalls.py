"""How long the event loop stood still, by a beat that is due every second."""

from __future__ import annotations

import pytest

from tidings_hub.core.health.loop_stalls import BLOCKED_MAX_S, LoopStalls


@pytest.fixture
def stalls() -> LoopStalls:
    stalls = LoopStalls()
    stalls.expect(100.0, 1.0)
    return stalls


def beat(stalls: LoopStalls, now_s: float) -> None:
    stalls.observe(now_s)
    stalls.expect(now_s, 1.0)


def test_punctual_beats_are_no_stall(stalls: LoopStalls) -> None:
    for now_s in (101.0, 102.05, 103.0):
        beat(stalls, now_s)
    assert stalls.blocked_s(103.9, after_s=0.0) == 0.0


def test_late_beat_is_a_stall_since_the_last_one(stalls: LoopStalls) -> None:
    beat(stalls, 106.0)
    assert stalls.blocked_s(106.5, after_s=0.0) == 6.0


def test_stall_is_counted_before_its_beat_and_only_once(stalls: LoopStalls) -> None:
    """Input may be read before the beat."""
    assert stalls.blocked_s(106.0, after_s=0.0) == 6.0
    assert stalls.blocked_s(106.01, after_s=0.0) == 6.0
    beat(stalls, 106.02)
    assert stalls.blocked_s(106.5, after_s=0.0) == 6.0


def test_stalls_before_a_time_are_not_counted(stalls: LoopStalls) -> None:
    beat(stalls, 106.0)
    beat(stalls, 109.0)
    assert stalls.blocked_s(109.5, after_s=0.0) == 9.0
    assert stalls.blocked_s(109.5, after_s=106.0) == 3.0
    assert stalls.blocked_s(109.5, after_s=109.0) == 0.0


def test_old_stalls_are_forgotten(stalls: LoopStalls) -> None:
    beat(stalls, 106.0)
    for now_s in range(107, 117):
        beat(stalls, float(now_s))
    assert stalls.blocked_s(116.5, after_s=0.0) == 0.0


def test_time_is_bounded(stalls: LoopStalls) -> None:
    beat(stalls, 10_000.0)
    assert stalls.blocked_s(10_000.0, after_s=0.0) == BLOCKED_MAX_S


def test_without_a_beat_there_is_no_stall() -> None:
    stalls = LoopStalls()
    assert stalls.blocked_s(1_000.0, after_s=0.0) == 0.0
