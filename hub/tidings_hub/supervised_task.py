"""Long-lived tasks of a node: one that fails unexpectedly is logged, counted and started again.

A task handles the errors that it expects. An error that it does not expect would end its greenlet, and nothing would
notice: the node would serve on without that task. So each task that lives as long as the node runs as a
`SupervisedTask`; `tests/house/test_tasks.py` checks that.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from tidings_hub import runtime
from tidings_hub.metrics import Metrics

logger = logging.getLogger("tidings.tasks")

# The first restart follows soon, since most errors do not repeat; each further one waits twice as long.
_FIRST_S: Final = 0.1
_MAX_S: Final = 10.0
# A task that ran for this long was healthy: its next restart waits `_FIRST_S` again.
_HEALTHY_S: Final = 60.0


class SupervisedTask:
    """Calls `run` until it returns. When `run` raises, it is called again after a pause.

    `name` is the label of the task in `tidings_task_restarts_total`. Start the object with `runtime.spawn` or as the
    target of a thread. `run` must be able to start again after any error. After a stop it must return.
    """

    def __init__(self, name: str, run: Callable[[], object], metrics: Metrics) -> None:
        self._name = name
        self._run = run
        self._metrics = metrics

    def __call__(self) -> None:
        """Run the task. Blocks until it ends."""
        pause_s = _FIRST_S
        while True:
            started_s = time.monotonic()
            try:
                self._run()
            except (Exception, runtime.Interruption):
                self._metrics.count(self._metrics.task_restarts, self._name)
                pause_s = _FIRST_S if time.monotonic() - started_s >= _HEALTHY_S else pause_s
                logger.exception("unexpected error in the task %s; restarting it in %.1f s", self._name, pause_s)
            else:
                return
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, _MAX_S)


class WorkerErrors:
    """Logs and counts errors of calls in a pool of workers that no call expects: `on_error` of `runtime.Pool`."""

    def __init__(self, name: str, metrics: Metrics) -> None:
        self._name = name
        self._metrics = metrics

    def __call__(self, error: BaseException) -> None:
        """A call has failed. The pool goes on."""
        self._metrics.count(self._metrics.worker_errors, self._name)
        logger.error("unexpected error in a worker of the pool %s", self._name, exc_info=error)
