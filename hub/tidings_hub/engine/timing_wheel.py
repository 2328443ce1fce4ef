"""One timing wheel for every deadline of the engine: no timer per connection.

Entries are put and dropped in O(1). A slot is visited once per `granularity_s`; an entry
says itself when it wants to be visited again.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

from tidings_hub import runtime

_SLOTS = 256
_NOWHERE = -1
_random = random.Random()  # noqa: S311 - spreads load, guards nothing


class Timed(Protocol):
    """Something with a deadline. `slot` belongs to the wheel; it begins as -1."""

    slot: int

    def due(self, now_s: float) -> float | None:
        """Do what is due. Seconds until the next visit, or None for no further one."""


def phase_s(interval_s: float) -> float:
    """When a new connection's first ping is due: spread, so that those opened together are not pinged together.

    Never later than `interval_s`, which the client waits for.
    """
    return interval_s * _random.uniform(0.5, 0.9)


class Wheel:
    """Visits what was put into it at the time that it asked for, at most one granularity late.

    `failed` is told of an exception from an entry; the wheel goes on turning.
    """

    def __init__(self, granularity_s: float, failed: Callable[[Timed, BaseException], object]) -> None:
        self.granularity_s = granularity_s
        self._failed = failed
        self._slots: list[set[Timed]] = [set() for _ in range(_SLOTS)]
        self._started_s = runtime.now_s()
        self._at = 0
        self._timer: runtime.Timer | None = None

    def __len__(self) -> int:
        """How many entries there are."""
        return sum(map(len, self._slots))

    def refine(self, granularity_s: float) -> None:
        """Turn in finer steps. Only while nothing is in the wheel."""
        self.granularity_s = granularity_s
        self._started_s, self._at = runtime.now_s(), 0

    def put(self, entry: Timed, delay_s: float) -> None:
        """Visit `entry` in `delay_s`; a longer delay than one turn is visited early, and asks again."""
        if entry.slot >= 0:
            self._slots[entry.slot].discard(entry)
        # Rounded up, and counted from the wheel's own time: never early by more than the caller can see.
        due = (runtime.now_s() - self._started_s + delay_s) / self.granularity_s
        ahead = min(max(int(due) + 1 - self._at, 1), _SLOTS - 1)
        entry.slot = (self._at + ahead) % _SLOTS
        self._slots[entry.slot].add(entry)

    def drop(self, entry: Timed) -> None:
        """Forget `entry`. Idempotent."""
        if entry.slot >= 0:
            self._slots[entry.slot].discard(entry)
            entry.slot = _NOWHERE

    def start(self) -> None:
        """Begin to turn."""
        self._timer = runtime.call_later(self.granularity_s, self._tick)

    def stop(self) -> None:
        """Turn no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def turn(self) -> None:
        """Visit all slots whose time has come."""
        now_s = runtime.now_s()
        target = int((now_s - self._started_s) / self.granularity_s)
        # After a long stop of the process (suspend, SIGSTOP) each slot is visited once, not once per lost round.
        self._at = max(self._at, target - _SLOTS)
        while self._at < target:
            self._at += 1
            slot = self._at % _SLOTS
            if self._slots[slot]:
                self._visit(slot, now_s)

    def _visit(self, slot: int, now_s: float) -> None:
        entries, self._slots[slot] = self._slots[slot], set()
        for entry in entries:
            # An earlier entry's visit may have dropped or moved this one.
            if entry.slot != slot:
                continue
            entry.slot = _NOWHERE
            try:
                again_s = entry.due(now_s)
                if again_s is not None and entry.slot == _NOWHERE:
                    self.put(entry, again_s)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001 - one entry must not stop all heartbeats
                self._failed(entry, error)

    def _tick(self) -> None:
        # First the next timer: whatever happens below, the wheel goes on.
        self.start()
        self.turn()
