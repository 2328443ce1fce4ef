from __future__ import annotations

import pytest

from tidings_hub.brokers.barriers import Barrier, Barriers


def test_a_passed_barrier_ran_its_action_and_is_ok() -> None:
    calls: list[str] = []
    barrier = Barrier(1, lambda: calls.append("ran"))
    barrier.run()
    assert (calls, barrier.passed.is_set, barrier.ok) == (["ran"], True, True)


def test_a_failing_action_wakes_the_waiting_greenlet_without_ok() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    barrier = Barrier(1, fail)
    with pytest.raises(ZeroDivisionError):
        barrier.run()
    assert (barrier.passed.is_set, barrier.ok) == (True, False)


def test_tokens_are_unique() -> None:
    barriers = Barriers()
    assert len({barriers.new_token() for _ in range(100)}) == 100


def test_a_barrier_is_returned_once() -> None:
    barriers, barrier = Barriers(), Barrier(1)
    barriers.add(b"b1", barrier)
    assert barriers.pop(b"b1") is barrier
    assert barriers.pop(b"b1") is None


def test_a_broken_link_wakes_all_without_ok() -> None:
    barriers, waiting = Barriers(), [Barrier(1), Barrier(1)]
    for number, barrier in enumerate(waiting):
        barriers.add(b"b%d" % number, barrier)
    barriers.break_all()
    assert [(barrier.passed.is_set, barrier.ok) for barrier in waiting] == [(True, False)] * 2
    assert barriers.pop(b"b0") is None
