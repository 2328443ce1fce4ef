"""Notes on their way to the broker: one greenlet writes what has gathered, in few calls, and again what failed.

A later act on a note takes the place of an earlier one that is not written yet, so what waits is bounded by the
sessions there are.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from tidings.errors import HubError, Unavailable
from tidings_hub.brokers.base import Broker
from tidings_hub.core.resumable_session import ResumableSession
from tidings_hub.core.session_records import RecordOperation, SessionRecord, WriteResult
from tidings_hub.log import log_rate_limited
from tidings_hub.metrics import Metrics

logger = logging.getLogger("tidings.keeping")

# New sessions gather for so long, that a storm of them is few calls; who waits for a write does not wait for this.
_GATHER_S = 0.02
_RETRY_S = 0.5
_STOP_S = 5.0
# Notes of one call: about a millisecond of Redis' time.
_RECORDS_PER_CALL = 500


class _PendingFlush:
    """Somebody waits until the broker knows."""

    __slots__ = ("done", "error")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.error: HubError | None = None


class SessionWriter:
    """What has yet to be written. `pack` makes a note of an act, `wrote` hears what came of it.

    `turn` is called before each round, every `idle_s` seconds at least, and may raise what the broker raises.
    """

    def __init__(
        self,
        broker: Broker,
        metrics: Metrics,
        *,
        record_for: Callable[[ResumableSession, RecordOperation], SessionRecord],
        on_written: Callable[[ResumableSession, RecordOperation, WriteResult], None],
        before_round: Callable[[], None],
        idle_s: float,
    ) -> None:
        self._broker = broker
        self._metrics = metrics
        self._record_for = record_for
        self._on_written = on_written
        self._before_round = before_round
        self._idle_s = idle_s
        self._pending: dict[ResumableSession, RecordOperation] = {}
        self._flushes: list[_PendingFlush] = []
        self._wake = threading.Event()
        self._flush_requested = threading.Event()
        self._thread: threading.Thread | None = None
        self._writing = False
        self._stopping = False

    def start(self) -> None:
        """Begin to write."""
        self._thread = threading.Thread(target=self._run, name="tidings-keeping", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what is still to be written, and end."""
        self._stopping = True
        self._wake.set()
        self._flush_requested.set()
        if self._thread is not None:
            self._thread.join(_STOP_S)

    @property
    def is_running(self) -> bool:
        """Whether anything is ever written."""
        return self._thread is not None

    @property
    def has_pending(self) -> bool:
        """Whether the broker has yet to be told something."""
        return bool(self._pending or self._flushes or self._writing)

    def enqueue(self, kept: ResumableSession, act: RecordOperation) -> None:
        """Write this soon. Never waits."""
        self._pending[kept] = _merge(self._pending.get(kept), act)
        # Each connect comes by here; setting what is set takes locks for nothing.
        if not self._wake.is_set():
            self._wake.set()

    def enqueue_if_idle(self, kept: ResumableSession, act: RecordOperation) -> None:
        """Write this in the round that is about to begin, unless there is more to be written of it."""
        self._pending.setdefault(kept, act)

    def discard(self, kept: ResumableSession) -> None:
        """Write nothing more of it."""
        self._pending.pop(kept, None)

    def flush(self, kept: ResumableSession, act: RecordOperation, *, timeout_s: float) -> None:
        """Write this at once, and wait until the broker knows.

        Raises:
            Unavailable, TimedOut: it could not be told; it will be, with what there is to tell then.
        """
        wait = _PendingFlush()
        self._flushes.append(wait)
        self.enqueue(kept, act)
        self._flush_requested.set()
        if not wait.done.wait(timeout_s):
            raise Unavailable("the broker was not told in time which channels this session has")
        if wait.error is not None:
            raise wait.error

    def wake(self) -> None:
        """Have `turn` called soon."""
        self._wake.set()

    # The greenlet that writes

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(self._idle_s)
            if not self._flushes:
                self._flush_requested.wait(_GATHER_S)
            self._flush_requested.clear()
            self._wake.clear()
            self._run_round()
        self._run_round()

    def _run_round(self) -> None:
        self._writing = True
        try:
            self._before_round()
            self._write_all()
        except HubError as error:
            self._metrics.recovery_errors += 1
            log_rate_limited(logger, logging.WARNING, "kept", "sessions could not be kept for a return: %s", error)
            time.sleep(0.0 if self._stopping else _RETRY_S)
        except Exception:
            self._metrics.recovery_errors += 1
            logger.exception("a mistake in keeping sessions; it goes on")
            time.sleep(_RETRY_S)
        finally:
            self._writing = False

    def _write_all(self) -> None:
        waiting, self._flushes = self._flushes, []
        acts = list(self._pending)
        try:
            for start in range(0, len(acts), _RECORDS_PER_CALL):
                self._write(acts[start : start + _RECORDS_PER_CALL])
        except HubError as error:
            for wait in waiting:
                wait.error = error
            raise
        finally:
            for wait in waiting:
                wait.done.set()

    def _write(self, chunk: Sequence[ResumableSession]) -> None:
        acts = [(kept, self._pending.pop(kept)) for kept in chunk if kept in self._pending]
        notes = [self._record_for(kept, act) for kept, act in acts]
        try:
            results = self._broker.write_sessions(notes)
        except BaseException:
            for kept, act in acts:
                self._pending[kept] = _merge(act, self._pending.get(kept, act))
            raise
        for (kept, _), note, result in zip(acts, notes, results, strict=True):
            self._on_written(kept, note.operation, result)


def _merge(before: RecordOperation | None, now: RecordOperation) -> RecordOperation:
    """What is to be written where `before` was not yet: what is not there cannot be changed."""
    return RecordOperation.CREATE if before is RecordOperation.CREATE and now is RecordOperation.UPDATE else now
