"""When a worker that ended is started again."""

from __future__ import annotations

from typing import Final

FIRST_S: Final = 0.2
MAX_S: Final = 30.0
# Who has lived so long was well: its next end is a first one again.
HEALTHY_S: Final = 60.0


class RestartBackoff:
    """The ends of one worker: each one soon after the last doubles the wait, up to `MOST_S`."""

    __slots__ = ("_began_s", "_wait_s")

    def __init__(self) -> None:
        self._began_s = 0.0
        self._wait_s = 0.0

    def on_started(self, *, now_s: float) -> None:
        """The worker was started."""
        self._began_s = now_s

    def on_exited(self, *, now_s: float) -> float:
        """The worker ended without being told to; the time at which it is to be started again."""
        well = now_s - self._began_s >= HEALTHY_S
        self._wait_s = FIRST_S if well or not self._wait_s else min(self._wait_s * 2, MAX_S)
        return now_s + self._wait_s
