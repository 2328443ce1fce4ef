"""A bounded pool of threads that start when there is work, also after a fork, and end when there is none."""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable

IDLE_S = 10.0
_logger = logging.getLogger("tidings")


class ThreadPool:
    """At most `threads` threads. The store bounds how much waits (`queue_max`).

    The threads are daemons: Python would wait for others at its exit until every job has run.
    """

    def __init__(self, threads: int) -> None:
        self._threads_max = threads
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._threads = 0
        self._busy = 0

    def submit(self, call: Callable[[], None]) -> None:
        """Run `call` in a thread, soon. It handles its own errors."""
        if self._pid != os.getpid():
            # Forked: the threads belong to the parent.
            self._reset()
        self._waiting.put(call)
        with self._lock:
            if self._threads >= min(self._threads_max, self._busy + self._waiting.qsize()):
                return
            self._threads += 1
        threading.Thread(target=self._work, name="tidings-background", daemon=True).start()

    def drop_waiting(self) -> None:
        """Forget what has not started."""
        while not self._waiting.empty():
            self._waiting.get_nowait()

    def _work(self) -> None:
        while True:
            try:
                call = self._waiting.get(timeout=IDLE_S)
            except queue.Empty:
                with self._lock:
                    # `submit` starts a thread under this lock if it sees too few.
                    if self._waiting.empty():
                        self._threads -= 1
                        return
                continue
            with self._lock:
                self._busy += 1
            try:
                call()
            except Exception:
                _logger.exception("a background job ended without an outcome; it fails when its lease ends")
            finally:
                with self._lock:
                    self._busy -= 1
