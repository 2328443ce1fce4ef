"""The pipes between a worker and its supervisor: heartbeats, and the end of the supervisor.

Heartbeats come from the event loop, so they end if code blocks it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from typing import Final

from tidings_hub import runtime
from tidings_hub.metrics import Metrics
from tidings_hub.node.worker import BEAT, LISTENS, NO_PIPE
from tidings_hub.supervised_task import SupervisedTask

logger = logging.getLogger("tidings.workers")

# Often enough for the shortest `worker_timeout_s`, and cheap.
BEAT_INTERVAL_S: Final = 1.0


def start_beats(beat_fd: int, metrics: Metrics) -> None:
    """Write to the pipe every second from now on, until the supervisor ends."""
    if beat_fd != NO_PIPE:
        # Programs that user code starts must not keep the pipe open.
        for set_flag in (os.set_inheritable, os.set_blocking):
            set_flag(beat_fd, False)  # noqa: FBT003 - the functions have no name for it
        runtime.spawn(SupervisedTask("worker_beats", partial(_beat, beat_fd), metrics))


def report_listening(beat_fd: int) -> None:
    """Report to the supervisor that the node listens."""
    _write(beat_fd, LISTENS)


def on_supervisor_end(action: Callable[[], None]) -> None:
    """Call `action` in a greenlet when standard input ends: it is a pipe from the supervisor, which has then ended."""
    fd = 0

    def on_readable(_fd: int) -> None:
        if not runtime.original("os").read(fd, 4096):
            runtime.unwatch(fd)
            runtime.spawn(action)

    os.set_blocking(fd, False)
    runtime.watch(fd, on_readable)


def _beat(beat_fd: int) -> None:
    while _write(beat_fd, BEAT):
        runtime.sleep(BEAT_INTERVAL_S)


def _write(beat_fd: int, message: bytes) -> bool:
    """Write to the pipe without waiting. Returns whether the supervisor may still read it."""
    try:
        runtime.original("os").write(beat_fd, message)
    except BlockingIOError:
        logger.debug("the supervisor does not read heartbeats; it is stopped")
    except OSError as error:
        # The supervisor has ended. This node drains because its standard input ends.
        logger.debug("no more heartbeats: %s", error)
        return False
    return True
