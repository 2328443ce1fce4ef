"""Claims deliveries that are due, hands them to their sender, and notes what came of them."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import Final

from tidings.errors import TidingsError
from tidings_hub.log import log_rate_limited
from tidings_notifications.core.delivery import DueDelivery, Failed, Outcome, Retry, Sender
from tidings_notifications.inbox.deliveries import Deliveries, FinishCounts
from tidings_notifications.metrics import ServiceMetrics
from tidings_notifications.writer import now_ms

logger = logging.getLogger("tidings.notifications")

# A delivery is late by at most this, if nothing waits.
_POLL_S: Final = 0.5
# Results of so long are noted together.
_GATHER_S: Final = 0.02
_AFTER_ERROR_S: Final = 1.0
_BATCH: Final = 500


class DeliveryLoop:
    """The deliveries of one method. `run` is the target of a thread.

    `sender`: None if no category uses the method; what waits is then withdrawn. `in_flight_max`: about so many
    deliveries are with the sender at most.

    A delivery whose result the database does not take is tried again when its claim has ended.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        sender: Sender | None,
        *,
        in_flight_max: int,
        metrics: ServiceMetrics,
        stopping: threading.Event,
    ) -> None:
        self._deliveries = deliveries
        self._sender = sender
        self._in_flight_max = in_flight_max
        self._metrics = metrics
        self._stopping = stopping
        self._wakeup = threading.Event()
        self._results: deque[tuple[DueDelivery, Outcome]] = deque()
        # Deliveries that the sender has, or whose results are not noted.
        self._open = 0

    def run(self) -> None:
        """Deliver until the service stops."""
        while not self._stopping.is_set():
            try:
                has_more = self._finish_some() + self._claim_some() > 0
            except TidingsError as error:
                self._metrics.database_errors.inc()
                log_rate_limited(logger, logging.WARNING, "deliveries", "deliveries wait; retrying: %s", error)
                self._stopping.wait(_AFTER_ERROR_S)
                continue
            if not has_more:
                self._wakeup.wait(_POLL_S)
            self._wakeup.clear()
            self._stopping.wait(_GATHER_S)

    def drain(self, deadline_s: float) -> None:
        """Note the results of what the sender still has, until `deadline_s`. After `run` has ended."""
        try:
            while self._open and time.monotonic() < deadline_s:
                if not self._finish_some():
                    self._wakeup.wait(_GATHER_S)
                    self._wakeup.clear()
        except TidingsError as error:
            logger.warning("some deliveries may be repeated: %s", error)

    def _claim_some(self) -> int:
        limit = min(_BATCH, self._in_flight_max - self._open)
        oldest_ms = self._deliveries.oldest_due_ms()
        late_ms = 0 if oldest_ms is None else max(0, now_ms() - oldest_ms)
        self._metrics.deliveries_late_s.labels(self._deliveries.method).set(late_ms / 1000)
        if limit <= 0 or oldest_ms is None or oldest_ms > now_ms():
            return 0
        claimed, withdrawn = self._deliveries.claim(now_ms(), limit)
        self._metrics.deliveries.labels("withdrawn").inc(withdrawn)
        self._open += len(claimed)
        if self._sender is not None and claimed:
            self._sender.submit(claimed, self._done)
        return len(claimed) + withdrawn

    def _done(self, due: DueDelivery, outcome: Outcome) -> None:
        self._results.append((due, outcome))
        self._wakeup.set()

    def _finish_some(self) -> int:
        results = [self._results.popleft() for _ in range(min(_BATCH, len(self._results)))]
        if not results:
            return 0
        try:
            counts = self._deliveries.finish(results, now_ms())
        except TidingsError:
            self._results.extendleft(reversed(results))
            raise
        self._open -= len(results)
        self._count(counts)
        for due, outcome in results:
            self._log(due, outcome)
        return len(results)

    def _log(self, due: DueDelivery, outcome: Outcome) -> None:
        about = (due.method, due.notification.category)
        if isinstance(outcome, Failed):
            key = f"failed {due.method}"
            log_rate_limited(logger, logging.WARNING, key, "a delivery failed (%s, %s): %s", *about, outcome.reason)
        # One that the end of this process has postponed is no trouble of the other side.
        elif isinstance(outcome, Retry) and not self._stopping.is_set():
            log_rate_limited(
                *(logger, logging.WARNING, f"postponed {due.method}"),
                *("a delivery waits for its next attempt (%s, %s): %s: %s", *about, due.host, outcome.reason),
            )

    def _count(self, counts: FinishCounts) -> None:
        for name in ("sent", "gone", "postponed", "failed", "expired"):
            self._metrics.deliveries.labels(name).inc(getattr(counts, name))
