"""Write-behind for session records: one greenlet writes in few calls what has gathered, and retries what failed.

A later operation on a record replaces an earlier one that is not written yet. So at most one operation per session
is pending.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from tidings.errors import HubError, Unavailable
from tidings_hub.brokers.base import Broker
from tidings_hub.brokers.health.call_guard import CallGuard
from tidings_hub.core.resumable_session import ResumableSession
from tidings_hub.core.session_records import RecordOperation, SessionRecord, WriteResult
from tidings_hub.log import log_rate_limited
from tidings_hub.metrics import Metrics
from tidings_hub.supervised_task import SupervisedTask

logger = logging.getLogger("tidings.keeping")

# Writes gather for this time, so that a reconnect storm is few calls. `flush` does not wait for it.
_GATHER_S = 0.02
_RETRY_S = 0.5
_STOP_S = 5.0
# Records of one call: about a millisecond of Redis' time.
_RECORDS_PER_CALL = 500


class _PendingFlush:
    """A caller of `flush` that waits until the broker has its write."""

    __slots__ = ("done", "error")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.error: HubError | None = None


class SessionWriter:
    """The pending operations, and the greenlet that writes them.

    `record_for` makes the record of an operation, right before the write. `on_written` gets the result.
    `before_round` is called before each round of writes, at least every `idle_s` seconds. It may raise the errors of
    a broker. `guard` gets the result of each call: writes are never refused, since only this greenlet waits for them.
    """

    def __init__(
        self,
        broker: Broker,
        metrics: Metrics,
        guard: CallGuard,
        *,
        record_for: Callable[[ResumableSession, RecordOperation], SessionRecord],
        on_written: Callable[[ResumableSession, RecordOperation, WriteResult], None],
        before_round: Callable[[], None],
        idle_s: float,
    ) -> None:
        self._broker = broker
        self._metrics = metrics
        self._guard = guard
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
        """Start the greenlet."""
        self._thread = threading.Thread(
            target=SupervisedTask("sessions", self._run, self._metrics), name="tidings-keeping", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Write what is pending, and stop. Waits at most 5 s."""
        self._stopping = True
        self._wake.set()
        self._flush_requested.set()
        if self._thread is not None:
            self._thread.join(_STOP_S)

    @property
    def is_running(self) -> bool:
        """Whether the writer was started."""
        return self._thread is not None

    @property
    def has_pending(self) -> bool:
        """Whether something is not written yet."""
        return bool(self._pending or self._flushes or self._writing)

    def enqueue(self, resumable: ResumableSession, operation: RecordOperation) -> None:
        """Write this soon. Never waits."""
        self._pending[resumable] = _merge(self._pending.get(resumable), operation)
        # Every CONNECT gets here. `set` takes locks, also on an event that is set already.
        if not self._wake.is_set():
            self._wake.set()

    def enqueue_if_idle(self, resumable: ResumableSession, operation: RecordOperation) -> None:
        """Write this in the round that is about to begin, unless another operation on the session is pending."""
        self._pending.setdefault(resumable, operation)

    def discard(self, resumable: ResumableSession) -> None:
        """Drop the pending operation on this session."""
        self._pending.pop(resumable, None)

    def flush(self, resumable: ResumableSession, operation: RecordOperation, *, timeout_s: float) -> None:
        """Write this immediately, and wait until the broker has it.

        Raises:
            Unavailable, TimedOut: the write did not succeed in time. It stays pending and is retried.
        """
        flush = _PendingFlush()
        self._flushes.append(flush)
        self.enqueue(resumable, operation)
        self._flush_requested.set()
        if not flush.done.wait(timeout_s):
            raise Unavailable("the channels of this session could not be saved at the broker in time; try again")
        if flush.error is not None:
            raise flush.error

    def wake(self) -> None:
        """Begin the next round soon."""
        self._wake.set()

    # In the greenlet

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
            log_rate_limited(
                logger, logging.WARNING, "kept", "sessions not saved, clients cannot resume them; retrying: %s", error
            )
            time.sleep(0.0 if self._stopping else _RETRY_S)
        except Exception:
            self._metrics.recovery_errors += 1
            logger.exception("unexpected error in the session writer; retrying")
            time.sleep(_RETRY_S)
        finally:
            self._writing = False

    def _write_all(self) -> None:
        flushes, self._flushes = self._flushes, []
        sessions = list(self._pending)
        try:
            for start in range(0, len(sessions), _RECORDS_PER_CALL):
                self._write(sessions[start : start + _RECORDS_PER_CALL])
        except HubError as error:
            for flush in flushes:
                flush.error = error
            raise
        finally:
            for flush in flushes:
                flush.done.set()

    def _write(self, sessions: Sequence[ResumableSession]) -> None:
        operations = [(resumable, self._pending.pop(resumable)) for resumable in sessions if resumable in self._pending]
        records = [self._record_for(resumable, operation) for resumable, operation in operations]
        started_s = self._guard.now_s()
        try:
            results = self._broker.write_sessions(records)
        except BaseException:
            if not self._guard.is_closed:
                # Only clients that wait for the store find out that it is away; this may have been their probe.
                self._guard.fail(started_s)
            for resumable, operation in operations:
                self._pending[resumable] = _merge(operation, self._pending.get(resumable, operation))
            raise
        if records:
            self._guard.succeed()
        for (resumable, _), record, result in zip(operations, records, results, strict=True):
            self._on_written(resumable, record.operation, result)


def _merge(pending: RecordOperation | None, later: RecordOperation) -> RecordOperation:
    """The operation that replaces both. A record that is not created yet cannot be updated."""
    if pending is RecordOperation.CREATE and later is RecordOperation.UPDATE:
        return RecordOperation.CREATE
    return later
