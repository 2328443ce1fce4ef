"""Says when the event loop stands still, and in whose code.

One thread runs everything: code that computes, or waits in C, without ever yielding keeps all clients waiting, and no
time limit can interrupt it. A thread of the system's own sees that, even if it never ends.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Final

from tidings_hub import runtime
from tidings_hub.metrics import Metrics

logger = logging.getLogger("tidings.stalls")

_FRAMES: Final = 12


class StallDetector:
    """Watches the loop of the thread that calls `start`; `warn_s` is how long it may stand still unmentioned."""

    def __init__(self, metrics: Metrics, *, warn_s: float) -> None:
        self._metrics = metrics
        self._warn_s = warn_s
        self._every_s = warn_s / 4
        self._beat_s = runtime.now_s()
        self._thread_id = 0

    def start(self) -> None:
        """Watch from now on, until the process ends."""
        threads = runtime.original("_thread")
        self._thread_id = threads.get_ident()
        runtime.spawn(self._beat)
        threads.start_new_thread(self._watch, ())

    def _beat(self) -> None:
        while True:
            now_s = runtime.now_s()
            if now_s - self._beat_s > self._warn_s:
                self._metrics.loop_stalls += 1
            self._beat_s = now_s
            runtime.sleep(self._every_s)

    def _watch(self) -> None:
        sleep, told_s = runtime.original("time").sleep, 0.0
        while True:
            sleep(self._every_s)
            beat_s = self._beat_s
            if beat_s != told_s and runtime.now_s() - beat_s > self._warn_s:
                told_s = beat_s
                self._tell()

    def _tell(self) -> None:
        frame = sys._current_frames().get(self._thread_id)  # noqa: SLF001 - the only way to see another thread's stack
        stack = "".join(traceback.format_stack(frame, _FRAMES)) if frame is not None else "unknown"
        record = logger.makeRecord(
            logger.name,
            logging.ERROR,
            "",
            0,
            "the event loop has stood still for %.1f s: something in it does not yield; it is in: %s",
            (runtime.now_s() - self._beat_s, stack),
            None,
        )
        # Not through the logger: its locks are the loop's, which may never come back.
        for handler in logging.getLogger().handlers:
            handler.emit(record)
