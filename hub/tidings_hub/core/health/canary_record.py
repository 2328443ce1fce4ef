"""The results of a node's canaries, and whether they show that publications get through."""

from __future__ import annotations


class CanaryRecord:
    """Remembers the last results. `failures`: how many failed since the last one that returned; `error`: why."""

    __slots__ = ("_returned_at_s", "error", "failures", "trip_s")

    def __init__(self) -> None:
        self._returned_at_s: float | None = None
        self.trip_s = 0.0
        self.failures = 0
        self.error = ""

    def on_returned(self, trip_s: float, *, now_s: float) -> None:
        """A canary returned after `trip_s` seconds."""
        self._returned_at_s, self.trip_s = now_s, trip_s
        self.failures, self.error = 0, ""

    def on_failed(self, error: str) -> None:
        """A canary was rejected, or did not return in time."""
        self.failures += 1
        self.error = error

    def age_s(self, *, now_s: float) -> float | None:
        """Seconds since a canary returned; None: none has."""
        return None if self._returned_at_s is None else now_s - self._returned_at_s

    def is_passing(self, *, failures_max: int, period_s: float, now_s: float) -> bool:
        """Whether a canary returned recently. It takes `failures_max` failures in a row to change this.

        `period_s`: the longest time that one canary takes, with the pause before it. If the results themselves do not
        arrive, because the greenlet that sends canaries is blocked, the last one counts for as long as the failures.
        """
        age_s = self.age_s(now_s=now_s)
        return age_s is not None and self.failures < failures_max and age_s <= failures_max * period_s
