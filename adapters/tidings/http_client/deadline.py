"""A point in time at which work has to end."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(slots=True)
class Deadline:
    """A time of the monotonic clock, in seconds."""

    at_s: float

    @classmethod
    def after(cls, timeout_s: float) -> Deadline:
        """The deadline `timeout_s` seconds from now."""
        return cls(time.monotonic() + timeout_s)

    def left_s(self) -> float:
        """Seconds until the deadline; negative after it."""
        return self.at_s - time.monotonic()

    def wait_s(self) -> float:
        """Seconds until the deadline, for the timeout of a system call.

        Raises:
            TimeoutError: the deadline has passed.
        """
        left_s = self.left_s()
        if left_s <= 0:
            raise TimeoutError("no complete response in time")
        return left_s
