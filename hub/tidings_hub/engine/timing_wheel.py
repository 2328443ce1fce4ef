"""A timing wheel for all deadlines of the engine, instead of a timer per connection.

Scheduling and cancelling an entry costs O(1). The wheel advances by one slot per `granularity_s` and visits the entries
in it. Each entry returns when it needs its next visit.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Protocol

from tidings_hub import runtime
from tidings_hub.core.health.loop_stalls import LoopStalls

_SLOTS = 256
_UNSCHEDULED = -1
# A tick that is later than this follows a stall of the event loop.
_LATE_S = 0.1
# How long the visits wait at most for the input of a stall. A node under load always has some input.
_CATCH_UP_S = 2.0
_random = random.Random()  # noqa: S311 - spreads load; no secret depends on it


class TimedEntry(Protocol):
    """An object with a deadline. `slot` belongs to the wheel; its initial value is -1."""

    slot: int

    def on_deadline(self, now_s: float) -> float | None:
        """Do what is due. Return the seconds until the next visit, or None for no further visit."""


def first_ping_delay_s(interval_s: float) -> float:
    """Return the delay of a new connection's first ping: random, so that pings of many new connections spread out.

    The delay is always shorter than `interval_s`, because the client expects a ping within that time.
    """
    return interval_s * _random.uniform(0.5, 0.9)


class TimingWheel:
    """Visits entries at their scheduled time, at most one granularity late.

    `on_error` gets the exception of an entry's visit. The wheel continues. `stalls`: how late it was.

    While the event loop stood still, clients kept their deadlines, but what they sent waits in the kernel. So after a
    stall the visits wait until it was read: while `has_input`, at most `_CATCH_UP_S`.
    """

    def __init__(self, granularity_s: float, on_error: Callable[[TimedEntry, BaseException], object]) -> None:
        self.granularity_s = granularity_s
        self.stalls = LoopStalls()
        self._on_error = on_error
        self._slots: list[set[TimedEntry]] = [set() for _ in range(_SLOTS)]
        self._started_s = runtime.now_s()
        self._at = 0
        self._timer: runtime.Timer | None = None
        # Whether events of sockets wait to be handled.
        self.has_input: Callable[[], bool] = lambda: False
        self._due_s = math.inf
        # Until when the visits may wait. 0: they do not.
        self._catch_up_until_s = 0.0

    def __len__(self) -> int:
        """Number of scheduled entries."""
        return sum(map(len, self._slots))

    def refine(self, granularity_s: float) -> None:
        """Advance in finer steps. Call it only while the wheel is empty."""
        self.granularity_s = granularity_s
        self._started_s, self._at = runtime.now_s(), 0

    def schedule(self, entry: TimedEntry, delay_s: float) -> None:
        """Visit `entry` in `delay_s`. If that is longer than one round, the visit is early and must reschedule."""
        if entry.slot >= 0:
            self._slots[entry.slot].discard(entry)
        # Rounded up and measured from the wheel's own start, so that a visit is never early within one round.
        due = (runtime.now_s() - self._started_s + delay_s) / self.granularity_s
        ahead = min(max(int(due) + 1 - self._at, 1), _SLOTS - 1)
        entry.slot = (self._at + ahead) % _SLOTS
        self._slots[entry.slot].add(entry)

    def cancel(self, entry: TimedEntry) -> None:
        """Remove `entry`. Idempotent."""
        if entry.slot >= 0:
            self._slots[entry.slot].discard(entry)
            entry.slot = _UNSCHEDULED

    def start(self) -> None:
        """Start to advance."""
        self._timer = runtime.call_later(self.granularity_s, self._tick)
        self._due_s = runtime.now_s() + self.granularity_s
        self.stalls.expect(runtime.now_s(), self.granularity_s)

    def stop(self) -> None:
        """Stop to advance."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due_s = math.inf
        self.stalls.expect(runtime.now_s(), math.inf)

    def advance(self) -> None:
        """Visit all slots that are due."""
        now_s = runtime.now_s()
        target = int((now_s - self._started_s) / self.granularity_s)
        # After the process was stopped (suspend, SIGSTOP), visit each slot once, not once per lost round.
        self._at = max(self._at, target - _SLOTS)
        while self._at < target:
            self._at += 1
            slot = self._at % _SLOTS
            if self._slots[slot]:
                self._visit(slot, now_s)

    def _visit(self, slot: int, now_s: float) -> None:
        entries, self._slots[slot] = self._slots[slot], set()
        for entry in entries:
            # The visit of an earlier entry may have cancelled or moved this one.
            if entry.slot != slot:
                continue
            entry.slot = _UNSCHEDULED
            try:
                delay_s = entry.on_deadline(now_s)
                if delay_s is not None and entry.slot == _UNSCHEDULED:
                    self.schedule(entry, delay_s)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001 - an error of one entry must not stop all heartbeats
                self._on_error(entry, error)

    @property
    def is_behind(self) -> bool:
        """Whether the event loop stood still, and the input of that time may not be read yet."""
        return bool(self._catch_up_until_s) or runtime.now_s() - self._due_s >= _LATE_S

    def _tick(self) -> None:
        now_s = runtime.now_s()
        self.stalls.observe(now_s)
        is_late = now_s - self._due_s >= _LATE_S
        # First start the next timer, so that an exception below cannot stop the wheel.
        self.start()
        if not self._catch_up_until_s:
            if is_late:
                # The pump gets its first turn before the next tick.
                self._catch_up_until_s = now_s + _CATCH_UP_S
                return
        elif now_s < self._catch_up_until_s and self.has_input():
            return
        self._catch_up_until_s = 0.0
        self.advance()
