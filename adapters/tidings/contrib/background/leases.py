"""The thread that renews the leases of a process's jobs, and publishes their progress."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tidings.contrib.background.bounds import JobBounds
from tidings.contrib.background.current import RunningJob
from tidings.contrib.background.job import Job
from tidings.contrib.background.store import JobStore
from tidings.errors import TidingsError

# A running job learns of its cancel after this time at the latest.
CHECK_S = 1.0
# A lease is renewed this often before it ends.
_RENEWALS = 3

_logger = logging.getLogger("tidings")


@dataclass(slots=True)
class _Lease:
    """When a lease was renewed, in seconds of `time.monotonic`. `running` is None while the job waits for a thread."""

    job: Job
    running: RunningJob | None
    renewed_s: float


class LeaseKeeper:
    """Renews the leases of jobs that wait or run in this process, until they end.

    Only this thread publishes about a job that runs, so its events are in order. The thread ends with the last job.
    `publish` handles its own errors.
    """

    def __init__(self, store: JobStore, bounds: JobBounds, publish: Callable[[Sequence[Job]], None]) -> None:
        self._store = store
        self._bounds = bounds
        self._publish = publish
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._has_end = threading.Event()
        self._leases: dict[str, _Lease] = {}
        self._ended: list[tuple[Job, RunningJob]] = []
        self._has_thread = False
        self._swept_s = time.monotonic()

    def wake(self) -> None:
        """Look at all jobs soon."""
        self._wake.set()

    def add(self, job: Job, running: RunningJob | None = None) -> None:
        """Keep the lease of a job that waits, or from now on that of its run."""
        if self._pid != os.getpid():
            # Forked: the parent keeps the leases of its own jobs.
            self._reset()
        with self._lock:
            self._leases[job.id] = _Lease(job, running, time.monotonic())
            self._start()
        self._wake.set()

    def forget(self, job_id: str) -> None:
        """Keep this lease no longer."""
        with self._lock:
            self._leases.pop(job_id, None)

    def end(self, running: RunningJob, ended: Job | None) -> None:
        """Keep the lease no longer, and publish the end of the job, if there is one to publish."""
        with self._lock:
            self._leases.pop(running.job.id, None)
            if ended is None:
                running.published.set()
            else:
                self._ended.append((ended, running))
                self._start()
        self._has_end.set()
        self._wake.set()

    def jobs(self) -> tuple[list[Job], list[RunningJob]]:
        """The jobs that wait in this process, and those that run."""
        with self._lock:
            leases = list(self._leases.values())
        return (
            [lease.job for lease in leases if lease.running is None],
            [lease.running for lease in leases if lease.running is not None],
        )

    def _start(self) -> None:
        if not self._has_thread:
            self._has_thread = True
            threading.Thread(target=self._run, name="tidings-background-leases", daemon=True).start()

    def _run(self) -> None:
        while True:
            self._wake.wait(min(CHECK_S, self._bounds.lease_s / _RENEWALS))
            self._wake.clear()
            self._has_end.clear()
            try:
                self._step()
            except Exception:
                _logger.exception("the leases of background jobs could not be renewed; trying again")
            with self._lock:
                if not self._leases and not self._ended:
                    self._has_thread = False
                    return
            # The rate of the events: the last progress of each interval is published. Only an end does not wait.
            self._has_end.wait(self._bounds.progress_interval_s)

    def _step(self) -> None:
        with self._lock:
            ended, self._ended = self._ended, []
            leases = list(self._leases.values())
        try:
            changed = [job for lease in leases for job in self._renew(lease)]
            # A job that has ended meanwhile is published in the next step: first its progress, then its end.
            self._publish([*changed, *(job for job, _ in ended)])
        finally:
            for _, running in ended:
                running.published.set()
        now_s = time.monotonic()
        if now_s - self._swept_s >= self._bounds.lease_s / 2:
            self._swept_s = now_s
            self._publish(self._store.end_lapsed())

    def _renew(self, lease: _Lease) -> list[Job]:
        """Renew a lease if it is due. Returns the job if its progress is to be published."""
        is_changed, progress, message = False, lease.job.progress, lease.job.message
        pace_s = self._bounds.lease_s / _RENEWALS
        if lease.running is not None:
            is_changed, progress, message = lease.running.take_change()
            pace_s = min(pace_s, CHECK_S)
        if not is_changed and time.monotonic() - lease.renewed_s < pace_s * 0.9:
            return []
        try:
            renewed = self._store.renew(lease.job, progress=progress, message=message)
        except TidingsError as error:
            _logger.warning("the lease of background job %s was not renewed: %s", lease.job.id, error)
            return []
        if renewed is None:
            self._on_lost(lease)
            return []
        lease.job, lease.renewed_s = renewed, time.monotonic()
        if lease.running is not None and renewed.is_cancel_requested:
            lease.running.is_cancelled = True
        return [renewed] if is_changed else []

    def _on_lost(self, lease: _Lease) -> None:
        """The job has ended in the store: it was cancelled while it waited, or its lease ended."""
        self.forget(lease.job.id)
        if lease.running is not None and not lease.running.has_returned:
            lease.running.is_cancelled = True
            _logger.warning("background job %s has lost its lease; its result will be discarded", lease.job.id)
