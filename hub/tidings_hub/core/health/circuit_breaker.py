"""Whether a call to something that may be away is tried, or fails at once.

While it answers, every call is tried. After a failure one caller at a time tries it, the probe. The others fail at
once, so that they hold no worker.
"""

from __future__ import annotations

import math


class CircuitBreaker:
    """The state of one part of the broker, as the results of calls show it. All times are of one monotonic clock.

    `pause_s`: between a failed probe and the next one. `probe_s`: after that time a probe without a result is repeated.
    """

    __slots__ = ("_away_since_s", "_pause_s", "_probe_at_s", "_probe_s", "_probe_started_s", "_succeeded_at_s")

    def __init__(self, *, pause_s: float, probe_s: float) -> None:
        self._pause_s = pause_s
        self._probe_s = probe_s
        self._away_since_s: float | None = None
        self._probe_at_s = 0.0
        self._probe_started_s = -math.inf
        self._succeeded_at_s = -math.inf

    def away_s(self, now_s: float) -> float:
        """For how long no call has succeeded, since the start of the first one that failed; 0: calls succeed."""
        return 0.0 if self._away_since_s is None else now_s - self._away_since_s

    @property
    def is_closed(self) -> bool:
        """Whether every call is tried."""
        return self._away_since_s is None

    def admits(self, now_s: float) -> bool:
        """Whether a call may begin now. If calls fail, the one that may is the probe."""
        if self._away_since_s is None:
            return True
        if now_s < self._probe_at_s:
            return False
        self._probe_started_s = now_s
        self._probe_at_s = now_s + self._probe_s
        return True

    def succeed(self, now_s: float) -> None:
        """A call succeeded."""
        self._away_since_s = None
        self._succeeded_at_s = now_s

    def fail(self, started_s: float, now_s: float) -> None:
        """A call that began at `started_s` failed. One failure among calls that succeed changes nothing."""
        if started_s <= self._succeeded_at_s:
            return
        if self._away_since_s is None:
            self._away_since_s = started_s
            self._probe_at_s = now_s + self._pause_s
        elif started_s >= self._probe_started_s:
            self._probe_at_s = now_s + self._pause_s
