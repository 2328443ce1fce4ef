"""Back-off between restarts of a worker process that keeps crashing."""

from __future__ import annotations

from typing import Final

FIRST_S: Final = 0.2
MAX_S: Final = 30.0
# A worker that ran for this long was healthy: the next crash waits `FIRST_S` again.
HEALTHY_S: Final = 60.0


class RestartBackoff:
    """When to restart one worker. Each crash soon after the previous one doubles the wait, up to `MAX_S`."""

    __slots__ = ("_started_s", "_wait_s")

    def __init__(self) -> None:
        self._started_s = 0.0
        self._wait_s = 0.0

    def on_started(self, *, now_s: float) -> None:
        """The worker was started."""
        self._started_s = now_s

    def on_exited(self, *, now_s: float) -> float:
        """The worker exited unexpectedly. Returns the time at which to start it again."""
        was_healthy = now_s - self._started_s >= HEALTHY_S
        self._wait_s = FIRST_S if was_healthy or not self._wait_s else min(self._wait_s * 2, MAX_S)
        return now_s + self._wait_s
