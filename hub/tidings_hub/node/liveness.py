"""Whether a worker process still works, by the times of its heartbeats."""

from __future__ import annotations


class Liveness:
    """When one worker counts as hung: no heartbeat for `timeout_s`, or no listening after `start_timeout_s`."""

    __slots__ = ("_beat_s", "_start_timeout_s", "_started_s", "_timeout_s", "has_listened")

    def __init__(self, *, timeout_s: float, start_timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._start_timeout_s = start_timeout_s
        self._started_s = 0.0
        self._beat_s: float | None = None
        self.has_listened = False

    def on_started(self, *, now_s: float) -> None:
        """The process was started."""
        self._started_s, self._beat_s, self.has_listened = now_s, None, False

    def on_beat(self, *, now_s: float) -> None:
        """A heartbeat arrived."""
        self._beat_s = now_s

    def on_resumed(self, stopped_s: float, *, now_s: float) -> None:
        """The supervisor itself did not run for `stopped_s` seconds. The worker has its whole time again."""
        self._started_s += stopped_s
        if self._beat_s is not None:
            self._beat_s = now_s

    @property
    def hangs_at_s(self) -> float:
        """When the worker counts as hung, unless a heartbeat arrives before."""
        start_ends_s = self._started_s + self._start_timeout_s
        if self._beat_s is None:
            # It loads its modules.
            return start_ends_s
        silent_at_s = self._beat_s + self._timeout_s
        return silent_at_s if self.has_listened else min(silent_at_s, start_ends_s)
