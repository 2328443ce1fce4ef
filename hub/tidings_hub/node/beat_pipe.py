"""The pipe through which a child process sends heartbeats to its supervisor.

The supervisor reads it without waiting, so a child that floods or fills it delays nothing.
"""

from __future__ import annotations

import logging
import os
from typing import Final

from tidings_hub.node.liveness import Liveness
from tidings_hub.node.worker import LISTENS

logger = logging.getLogger("tidings.workers")

_READ_MAX_BYTES: Final = 4096


class BeatPipe:
    """The supervisor's end. `liveness`: it learns of each heartbeat. `reader`: None while no process runs."""

    def __init__(self, liveness: Liveness) -> None:
        self.liveness = liveness
        self.reader: int | None = None

    def open(self) -> int:
        """Open it for a new process. Returns the end of the process, which the caller closes after the start.

        Raises:
            OSError: there is no descriptor left.
        """
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        self.reader = reader
        return writer

    def read(self, *, now_s: float) -> bool:
        """Read the heartbeats that have arrived. Returns whether more can arrive."""
        try:
            beats = b"" if self.reader is None else os.read(self.reader, _READ_MAX_BYTES)
        except BlockingIOError:
            return True
        if beats:
            self.liveness.on_beat(now_s=now_s)
        if LISTENS in beats:
            self.liveness.has_listened = True
        return bool(beats)

    def is_silent(self, *, now_s: float) -> bool:
        """Whether the process should have sent a heartbeat, or listened, before now."""
        if now_s < self.liveness.hangs_at_s:
            return False
        # Heartbeats may wait in the pipe, if the supervisor itself was slow or stopped.
        self.read(now_s=now_s)
        return now_s >= self.liveness.hangs_at_s

    def close(self) -> None:
        """Close it. Idempotent."""
        if self.reader is not None:
            os.close(self.reader)
            self.reader = None


def report_listening(beat_fd: int) -> None:
    """Write a heartbeat, without waiting: this process lives, and it listens. For processes without an event loop."""
    try:
        os.write(beat_fd, LISTENS)
    except BlockingIOError:
        logger.debug("the supervisor does not read heartbeats; it is stopped")
    except OSError as error:
        # The supervisor has ended. This process notices it by the end of its standard input.
        logger.debug("no more heartbeats: %s", error)
