"""How long the event loop stood still lately.

While it stands still (a handler that does not yield, SIGSTOP, a machine without free CPU), what clients send waits in
the kernel. Afterwards the node reads it at once, although the clients have sent it at a moderate rate.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

# A loop under load is late by some milliseconds.
_LATE_MIN_S: Final = 0.1
# What waited in the kernel is read within some turns of the loop. A busy node needs longer for all clients.
_REMEMBERED_S: Final = 10.0
# Clients that get no response for longer have closed their connection (`ping_interval_s` and `ping_timeout_s`).
BLOCKED_MAX_S: Final = 30.0


class LoopStalls:
    """Compares the time of a regular call in the loop, the beat, with the time when it was due."""

    __slots__ = ("_beat_s", "_due_s", "_stalls")

    def __init__(self) -> None:
        self._beat_s, self._due_s = 0.0, math.inf
        # The end of each stall, and its length.
        self._stalls: deque[tuple[float, float]] = deque()

    def expect(self, now_s: float, delay_s: float) -> None:
        """A beat was at `now_s`, and the next one is due `delay_s` later. Infinity: there is none."""
        self._beat_s, self._due_s = now_s, now_s + delay_s

    def observe(self, now_s: float) -> None:
        """Record a stall that ends now, if the beat is late. It began after the last beat, at an unknown time."""
        if now_s - self._due_s >= _LATE_MIN_S:
            self._stalls.append((now_s, now_s - self._beat_s))
            # The beat itself follows, and must not count the stall again.
            self._beat_s = self._due_s = now_s
        while self._stalls and self._stalls[0][0] < now_s - _REMEMBERED_S:
            self._stalls.popleft()

    def blocked_s(self, now_s: float, *, after_s: float) -> float:
        """How long the loop stood still, in all stalls that ended lately and after `after_s`."""
        self.observe(now_s)
        return min(BLOCKED_MAX_S, sum(length_s for ended_s, length_s in self._stalls if ended_s > after_s))
