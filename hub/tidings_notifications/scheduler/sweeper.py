"""Sweeps the store: notifications that expired or are too old, and digests that are due."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from tidings.errors import TidingsError
from tidings_hub.log import log_rate_limited
from tidings_notifications.inbox import Inbox
from tidings_notifications.metrics import ServiceMetrics
from tidings_notifications.writer import now_ms

logger = logging.getLogger("tidings.notifications")

# A digest is late by at most this.
SWEEP_S: Final = 1.0
# A sweep writes only if something is due. At least this often one row is written, so that readiness means "can store".
WRITE_S: Final = 5.0
# The database counts as away if no sweep has succeeded for so long.
STALE_S: Final = 35.0


class Sweeper:
    """Sweeps every `SWEEP_S`, and calls `observe` afterwards."""

    def __init__(
        self,
        inbox: Inbox,
        *,
        metrics: ServiceMetrics,
        stopping: threading.Event,
        observe: Callable[[], None],
    ) -> None:
        self._inbox = inbox
        self._metrics = metrics
        self._stopping = stopping
        self._observe = observe
        self._error = "the first sweep has not ended"
        self._swept_at_s = time.monotonic()
        self._write_at_s = self._swept_at_s

    def run(self) -> None:
        """Sweep until the service stops."""
        while not self._stopping.is_set():
            self._sweep()
            self._stopping.wait(SWEEP_S)

    def database_error(self) -> str:
        """Why the database cannot be read or written; empty if it can."""
        if self._error:
            return self._error
        silent_s = time.monotonic() - self._swept_at_s
        return f"no answer for {silent_s:.0f} s" if silent_s > STALE_S else ""

    def _sweep(self) -> None:
        try:
            if self._error or time.monotonic() >= self._write_at_s:
                self._write_at_s = time.monotonic() + WRITE_S
                self._inbox.check_write()
            swept = self._inbox.sweep(now_ms())
            self._observe()
        except TidingsError as error:
            self._error = str(error)
            self._metrics.database_errors.inc()
            log_rate_limited(logger, logging.WARNING, "sweep", "the sweep failed; retrying: %s", error)
            return
        self._error, self._swept_at_s = "", time.monotonic()
        self._metrics.deleted.inc(swept.deleted)
        self._metrics.digests.inc(swept.delivered)
