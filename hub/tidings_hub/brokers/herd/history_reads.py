"""How many pages of history are read at a time.

Each reply may have `recovery_max_bytes`, and Redis holds it until the node has read it. Without a bound, clients that
request many large pages at once would fill the memory of Redis, and canaries would come too late.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tidings.errors import Unavailable
from tidings_hub.brokers.base import BrokerLimits
from tidings_hub.metrics import Metrics


class HistoryReads:
    """Lets as many reads begin as `recovery_round_max_bytes` has room for. For any number of greenlets."""

    def __init__(self, limits: BrokerLimits, metrics: Metrics) -> None:
        self._timeout_s = limits.timeout_s
        self._metrics = metrics
        self._slots = threading.BoundedSemaphore(max(1, limits.recovery_round_max_bytes // limits.recovery_max_bytes))

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait until a read may begin; the block is the read.

        Raises:
            Unavailable: the others took too long.
        """
        if not self._slots.acquire(blocking=False):
            self._metrics.histories_deferred += 1
            if not self._slots.acquire(timeout=self._timeout_s):
                raise Unavailable("too many pages of history are being read; try again after a pause")
        try:
            yield
        finally:
            self._slots.release()
