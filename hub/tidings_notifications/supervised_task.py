"""Long-lived tasks of the service: one that fails unexpectedly is logged, counted and started again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from tidings_notifications.metrics import ServiceMetrics

logger = logging.getLogger("tidings.notifications")

# The first restart follows soon, since most errors do not repeat; each further one waits twice as long.
_FIRST_S: Final = 0.1
_MAX_S: Final = 10.0
# A task that ran for this long was healthy: its next restart waits `_FIRST_S` again.
_HEALTHY_S: Final = 60.0


class SupervisedTask:
    """Calls `run` until it returns. When `run` raises, it is called again after a pause, unless the service stops.

    `name` is the label of the task in `tidings_notifications_task_restarts_total`. It is the target of a thread.
    """

    def __init__(
        self, name: str, run: Callable[[], object], *, metrics: ServiceMetrics, stopping: threading.Event
    ) -> None:
        self._name = name
        self._run = run
        self._metrics = metrics
        self._stopping = stopping

    def __call__(self) -> None:
        """Run the task. Blocks until it ends."""
        pause_s = _FIRST_S
        while True:
            started_s = time.monotonic()
            try:
                self._run()
            except Exception:
                self._metrics.task_restarts.labels(self._name).inc()
                pause_s = _FIRST_S if time.monotonic() - started_s >= _HEALTHY_S else pause_s
                logger.exception("unexpected error in the task %s; restarting it in %.1f s", self._name, pause_s)
            else:
                return
            if self._stopping.wait(pause_s):
                return
            pause_s = min(pause_s * 2, _MAX_S)
