"""The wheel, turned by hand and by the clock."""

from __future__ import annotations

import time

from tidings_hub.engine.timing_wheel import Timed, Wheel, phase_s


class Entry:
    def __init__(self, *answers: float | None) -> None:
        self.slot = -1
        self.answers = list(answers)
        self.visits: list[float] = []

    def due(self, now_s: float) -> float | None:
        self.visits.append(now_s)
        return self.answers.pop(0) if self.answers else None


class Failing(Entry):
    def due(self, now_s: float) -> float | None:
        super().due(now_s)
        raise RuntimeError("on purpose")


def wheel(failures: list[Timed] | None = None) -> Wheel:
    return Wheel(0.01, lambda entry, _error: (failures if failures is not None else []).append(entry))


def turn_for(one: Wheel, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        one.turn()
        time.sleep(0.002)


def test_visits_at_the_time_asked_for_and_not_before() -> None:
    one, entry, began = wheel(), Entry(0.05), time.monotonic()
    one.put(entry, 0.05)
    turn_for(one, 0.2)
    assert len(entry.visits) == 2
    assert entry.visits[0] - began >= 0.05
    assert entry.visits[1] - entry.visits[0] >= 0.05
    assert len(one) == 0
    assert entry.slot == -1


def test_put_moves_and_drop_forgets() -> None:
    one, entry = wheel(), Entry()
    one.put(entry, 0.02)
    one.put(entry, 0.1)
    assert len(one) == 1
    one.drop(entry)
    one.drop(entry)
    turn_for(one, 0.15)
    assert entry.visits == []


def test_a_delay_longer_than_a_turn_is_asked_again() -> None:
    one = wheel()
    entry = Entry()
    one.put(entry, 3600)
    assert len(one) == 1


def test_one_failing_entry_does_not_stop_the_others() -> None:
    failures: list[Timed] = []
    one, bad, good = wheel(failures), Failing(), Entry()
    one.put(bad, 0.01)
    one.put(good, 0.01)
    turn_for(one, 0.05)
    assert failures == [bad]
    assert len(good.visits) == 1


def test_an_entry_may_drop_another_that_is_due_with_it() -> None:
    one, other = wheel(), Entry()

    class Dropping(Entry):
        def due(self, now_s: float) -> float | None:
            one.drop(other)
            other.slot = -2
            return None

    one.put(Dropping(), 0.01)
    one.put(other, 0.01)
    turn_for(one, 0.05)
    assert len(other.visits) <= 1


def test_a_long_pause_visits_each_entry_once() -> None:
    one, entries = wheel(), [Entry() for _ in range(20)]
    for number, entry in enumerate(entries):
        one.put(entry, number / 100)
    one._started_s -= 1000
    one.turn()
    assert [len(entry.visits) for entry in entries] == [1] * 20


def test_first_pings_are_spread_and_never_late() -> None:
    drawn = [phase_s(10) for _ in range(500)]
    assert max(drawn) <= 9
    assert max(drawn) - min(drawn) > 2
