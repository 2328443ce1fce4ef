"""Detects that the event loop is blocked, and logs the code that blocks it.

One thread runs everything. Code that computes or waits in C without yielding makes all clients wait, and no time limit
can interrupt it. A thread of the operating system still notices it, even if that code never returns.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Final

from tidings_hub import runtime
from tidings_hub.metrics import Metrics
from tidings_hub.supervised_task import SupervisedTask

logger = logging.getLogger("tidings.stalls")

_STACK_FRAMES: Final = 12


class StallDetector:
    """Watches the loop of the thread that calls `start`, and logs if it is blocked for more than `warn_s` seconds."""

    def __init__(self, metrics: Metrics, *, warn_s: float) -> None:
        self._metrics = metrics
        self._warn_s = warn_s
        self._interval_s = warn_s / 4
        self._last_beat_s = runtime.now_s()
        self._thread_id = 0

    def start(self) -> None:
        """Watch from now on, until the process ends."""
        threads = runtime.original("_thread")
        self._thread_id = threads.get_ident()
        runtime.spawn(SupervisedTask("stall_beat", self._beat, self._metrics))
        threads.start_new_thread(self._watch, ())

    def _beat(self) -> None:
        while True:
            now_s = runtime.now_s()
            if now_s - self._last_beat_s > self._warn_s:
                self._metrics.loop_stalls += 1
            self._last_beat_s = now_s
            runtime.sleep(self._interval_s)

    def _watch(self) -> None:
        sleep, reported_beat_s = runtime.original("time").sleep, 0.0
        while True:
            sleep(self._interval_s)
            last_beat_s = self._last_beat_s
            if last_beat_s != reported_beat_s and runtime.now_s() - last_beat_s > self._warn_s:
                reported_beat_s = last_beat_s
                try:
                    self._log_stack()
                except Exception:  # noqa: BLE001 - nothing supervises this thread, and its logger may be what failed
                    self._metrics.count(self._metrics.task_restarts, "stall_watch")

    def _log_stack(self) -> None:
        frame = sys._current_frames().get(self._thread_id)  # noqa: SLF001 - the only way to see another thread's stack
        stack = "".join(traceback.format_stack(frame, _STACK_FRAMES)) if frame is not None else "unknown"
        record = logger.makeRecord(
            logger.name,
            logging.ERROR,
            "",
            0,
            "the event loop has stood still for %.1f s: something in it does not yield; it is in: %s",
            (runtime.now_s() - self._last_beat_s, stack),
            None,
        )
        # Bypasses the logger: the blocked loop may hold the logger's locks.
        for handler in logging.getLogger().handlers:
            handler.emit(record)
