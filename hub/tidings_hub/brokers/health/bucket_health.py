"""The health of one bucket of a cluster: whether publications get through it, and since when.

A cluster can lose one bucket and serve the others. So each bucket has its own link state and its own canary.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from tidings.errors import TidingsError, Unavailable
from tidings_hub.brokers.base import BrokerPart, BrokerState


class _Bucket(Protocol):
    def canary(self) -> float: ...

    def state(self) -> BrokerState: ...


class BucketHealth:
    """Sends the canaries of one bucket and remembers the last result."""

    def __init__(self, name: str, bucket: _Bucket, *, now_s: Callable[[], float] = time.time) -> None:
        self._name = name
        self._bucket = bucket
        self._now_s = now_s
        self._canary_error = ""
        self._canary_since_s = 0.0
        self.trip_s: float | None = None
        """How long the last canary took; None if it did not return."""

    def check(self) -> None:
        """Send a canary through this bucket. Does not wait for one if the link is down."""
        self.trip_s, error = None, ""
        try:
            state = self._bucket.state()
            if not state.connected:
                raise Unavailable(state.last_error or "the link to Redis is down")
            self.trip_s = self._bucket.canary()
        except TidingsError as failure:
            error = str(failure)
        if bool(error) != bool(self._canary_error):
            self._canary_since_s = self._now_s()
        self._canary_error = error

    def part(self) -> BrokerPart:
        """This bucket's state: served if its link is up and its last canary returned."""
        state = self._bucket.state()
        if not state.connected:
            return BrokerPart(self._name, is_served=False, since_s=state.since_s, last_error=state.last_error)
        return BrokerPart(
            self._name,
            is_served=not self._canary_error,
            since_s=max(state.since_s, self._canary_since_s),
            last_error=self._canary_error or state.last_error,
        )


def check_all(buckets: Sequence[BucketHealth]) -> float:
    """Send a canary through every bucket at the same time. Returns the seconds of the slowest that returned.

    Raises:
        Unavailable: no canary returned.
    """
    threads = [threading.Thread(target=bucket.check, name="tidings-canary", daemon=True) for bucket in buckets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trips_s = [bucket.trip_s for bucket in buckets if bucket.trip_s is not None]
    if not trips_s:
        raise Unavailable(f"no bucket of the cluster returned a canary: {buckets[0].part().last_error}")
    return max(trips_s)
