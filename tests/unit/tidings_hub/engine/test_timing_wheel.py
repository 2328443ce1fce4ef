"""The timing wheel, advanced by hand and by the clock."""

from __future__ import annotations

import time

import pytest

from tidings_hub.engine.timing_wheel import TimedEntry, TimingWheel, first_ping_delay_s


class Entry:
    def __init__(self, *delays: float | None) -> None:
        self.slot = -1
        self.delays = list(delays)
        self.visits: list[float] = []

    def on_deadline(self, now_s: float) -> float | None:
        self.visits.append(now_s)
        return self.delays.pop(0) if self.delays else None


class FailingEntry(Entry):
    def on_deadline(self, now_s: float) -> float | None:
        super().on_deadline(now_s)
        raise RuntimeError("on purpose")


def new_wheel(failures: list[TimedEntry] | None = None) -> TimingWheel:
    return TimingWheel(0.01, lambda entry, _error: (failures if failures is not None else []).append(entry))


def advance_for(wheel: TimingWheel, seconds: float) -> None:
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        wheel.advance()
        time.sleep(0.002)


def test_visits_at_the_scheduled_time_and_not_before() -> None:
    wheel, entry, start_s = new_wheel(), Entry(0.05), time.monotonic()
    wheel.schedule(entry, 0.05)
    advance_for(wheel, 0.2)
    assert len(entry.visits) == 2
    assert entry.visits[0] - start_s >= 0.05
    assert entry.visits[1] - entry.visits[0] >= 0.05
    assert len(wheel) == 0
    assert entry.slot == -1


def test_schedule_moves_an_entry_and_cancel_removes_it() -> None:
    wheel, entry = new_wheel(), Entry()
    wheel.schedule(entry, 0.02)
    wheel.schedule(entry, 0.1)
    assert len(wheel) == 1
    wheel.cancel(entry)
    wheel.cancel(entry)
    advance_for(wheel, 0.15)
    assert entry.visits == []


def test_delay_longer_than_a_round_is_accepted() -> None:
    wheel, entry = new_wheel(), Entry()
    wheel.schedule(entry, 3600)
    assert len(wheel) == 1


def test_failing_entry_does_not_stop_the_others() -> None:
    failures: list[TimedEntry] = []
    wheel, failing, other = new_wheel(failures), FailingEntry(), Entry()
    wheel.schedule(failing, 0.01)
    wheel.schedule(other, 0.01)
    advance_for(wheel, 0.05)
    assert failures == [failing]
    assert len(other.visits) == 1


def test_entry_may_cancel_another_that_is_due_with_it() -> None:
    wheel, other = new_wheel(), Entry()

    class CancellingEntry(Entry):
        def on_deadline(self, now_s: float) -> float | None:
            wheel.cancel(other)
            other.slot = -2
            return None

    wheel.schedule(CancellingEntry(), 0.01)
    wheel.schedule(other, 0.01)
    advance_for(wheel, 0.05)
    assert len(other.visits) <= 1


def test_each_entry_is_visited_once_after_a_long_pause() -> None:
    wheel, entries = new_wheel(), [Entry() for _ in range(20)]
    for number, entry in enumerate(entries):
        wheel.schedule(entry, number / 100)
    wheel._started_s -= 1000
    wheel.advance()
    assert [len(entry.visits) for entry in entries] == [1] * 20


def test_first_pings_are_spread_and_not_late() -> None:
    delays = [first_ping_delay_s(10) for _ in range(500)]
    assert max(delays) <= 9
    assert max(delays) - min(delays) > 2


def stall(wheel: TimingWheel) -> None:
    """Start the wheel and let its tick be due for longer than a loop under load is late."""
    wheel.start()
    time.sleep(0.15)


def test_after_a_stall_the_visits_wait_for_input() -> None:
    wheel, entry, waiting = new_wheel(), Entry(), [True]
    wheel.has_input = lambda: waiting[0]
    wheel.schedule(entry, 0.02)
    stall(wheel)
    assert wheel.is_behind
    for _ in range(3):
        wheel._tick()
        assert entry.visits == []
        assert wheel.is_behind
    waiting.clear()
    waiting.append(False)
    wheel._tick()
    assert len(entry.visits) == 1
    assert not wheel.is_behind
    wheel.stop()


def test_endless_input_does_not_stop_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidings_hub.engine.timing_wheel._CATCH_UP_S", 0.05)
    wheel, entry = new_wheel(), Entry()
    wheel.has_input = lambda: True
    wheel.schedule(entry, 0.02)
    stall(wheel)
    wheel._tick()
    assert entry.visits == []
    time.sleep(0.06)
    wheel._tick()
    assert len(entry.visits) == 1
    wheel.stop()
