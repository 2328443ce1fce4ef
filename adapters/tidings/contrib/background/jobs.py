"""`BackgroundJobs`: begins jobs, runs them, and answers about them. The integrations of the frameworks add HTTP."""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

from tidings.contrib.background.bounds import JobBounds
from tidings.contrib.background.current import RunningJob, running_in
from tidings.contrib.background.job import (
    EVENT,
    FUNCTION_MAX,
    Failure,
    Job,
    JobCancelled,
    Outcome,
    StoredResponse,
    lost,
    new_job_id,
    new_owner,
)
from tidings.contrib.background.leases import LeaseKeeper
from tidings.contrib.background.store import JobStore
from tidings.contrib.background.thread_pool import ThreadPool
from tidings.contrib.delivery import OnError, deliver
from tidings.emitter import Emitter
from tidings.errors import NotFound, TidingsError, TooLarge, Unauthorized, Unavailable
from tidings.wire.channels import user_channel

# How long a job that has ended waits for its event. The state is stored by then.
_PUBLISH_S = 10.0
# A process looks for lapsed jobs at most this often.
SWEEP_S = 1.0
_logger = logging.getLogger("tidings")

# Runs a job's function: from the stored request, or from what the closure holds.
Call = Callable[[], StoredResponse]
# Sends the id and the owner of a stored job to another process, which calls `BackgroundJobs.run`.
SendTask = Callable[[str, str], None]


class BackgroundJobs:
    """The jobs of one application. `emitter` returns the emitter for events; it is called when it is needed."""

    def __init__(self, store: JobStore, bounds: JobBounds, emitter: Callable[[], Emitter], on_error: OnError) -> None:
        self.store = store
        self.bounds = bounds
        self._emitter = emitter
        self._on_error = on_error
        self._keeper = LeaseKeeper(store, bounds, self._publish)
        self._pool = ThreadPool(bounds.threads)
        self._pid = os.getpid()
        self._swept_s = -SWEEP_S
        # Not the method itself, which would keep this object until Python exits.
        atexit.register(_shut_down, weakref.ref(self))

    def begin(self, function: str, user: str | None, location_of: Callable[[str], str], call: Call) -> Job:
        """Run `call` in a thread of this process.

        Raises:
            Unauthorized: there is no user. TooFast, Full: too many jobs. Unavailable: the store does not reply.
        """
        job = self._new_job(function, user, location_of)
        self._create(job, b"", lease_s=self.bounds.lease_s)
        self._keeper.add(job)
        self._pool.submit(partial(self._run, job, lambda _: call()))
        return job

    def send(
        self, function: str, user: str | None, location_of: Callable[[str], str], request: bytes, send: SendTask
    ) -> Job:
        """Store `request`, and let another process run the job.

        Raises:
            Unauthorized, TooFast, Full: as `begin`. Unavailable: the store or the broker does not reply.
        """
        job = self._new_job(function, user, location_of)
        self._create(job, request, lease_s=self.bounds.queued_max_s)
        try:
            send(job.id, job.owner)
        except Exception as error:
            self.store.remove(job.id)
            raise Unavailable(f"the job was not sent to a worker: {type(error).__name__}: {error}"[:300]) from error
        return job

    def run(self, job_id: str, owner: str, call: Callable[[bytes], StoredResponse]) -> None:
        """Run a job that another process has stored, in this thread. `call` gets its request. Does not raise."""
        job = self.store.read(job_id)
        if job is not None:
            self._run(replace(job, owner=owner), call)

    def read(self, job_id: str, user: str | None) -> Job:
        """The job of this user.

        Raises:
            Unauthorized: there is no user. NotFound: there is no such job, or it is another user's.
        """
        self._end_lapsed()
        return self._owned(self.store.read(job_id), user)

    def cancel(self, job_id: str, user: str | None) -> Job:
        """Cancel the job of this user. A running function learns of it. A job that has ended stays as it is.

        Raises:
            Unauthorized, NotFound: as `read`.
        """
        before = self.read(job_id, user)
        if before.state.has_ended:
            return before
        job = self._owned(self.store.cancel(job_id), user)
        if job.state.has_ended:
            self._publish([job])
        return job

    def close(self) -> None:
        """End the jobs of this process: those that wait fail at once, those that run after `shutdown_s`."""
        if self._pid != os.getpid() and not any(self._keeper.jobs()):
            return
        self._pool.drop_waiting()
        waiting, _ = self._keeper.jobs()
        for job in waiting:
            self._keeper.forget(job.id)
            if started := self.store.start(job.id, job.owner, new_owner()):
                self._end_lost(started[0])
        deadline_s = time.monotonic() + self.bounds.shutdown_s
        while (running := self._keeper.jobs()[1]) and time.monotonic() < deadline_s:
            running[0].published.wait(min(0.2, self.bounds.shutdown_s))
        for run in running:
            self._keeper.forget(run.job.id)
            self._end_lost(run.job)
        self.store.close()

    def _new_job(self, function: str, user: str | None, location_of: Callable[[str], str]) -> Job:
        if user is None:
            raise Unauthorized("sign in first: a background job belongs to a user")
        user_channel(user)
        job_id = new_job_id()
        return Job(job_id, user, function[:FUNCTION_MAX], location_of(job_id), owner=new_owner())

    def _create(self, job: Job, request: bytes, *, lease_s: float) -> None:
        self._end_lapsed()
        self.store.create(job, request, lease_s=lease_s)

    def _owned(self, job: Job | None, user: str | None) -> Job:
        if user is None:
            raise Unauthorized("sign in first: a background job belongs to a user")
        if job is None or job.user != user:
            raise NotFound("there is no such job, or it has expired")
        return job

    def _end_lapsed(self) -> None:
        now_s = time.monotonic()
        if now_s - self._swept_s >= SWEEP_S:
            self._swept_s = now_s
            self._publish(self.store.end_lapsed())

    def _run(self, job: Job, call: Callable[[bytes], StoredResponse]) -> None:
        """Run a queued job. Nothing is raised: the outcome is stored, and errors are logged."""
        try:
            started = self.store.start(job.id, job.owner, new_owner())
        except TidingsError as error:
            _logger.warning("background job %s was not started: %s", job.id, error)
            self._keeper.forget(job.id)
            return
        if started is None:
            self._keeper.forget(job.id)
            return
        running, request = RunningJob(started[0], self._keeper.wake), started[1]
        self._keeper.add(started[0], running)
        outcome = self._outcome(running, partial(call, request))
        running.has_returned = True
        self._keeper.end(running, self._finish(running, outcome))
        if not running.published.wait(_PUBLISH_S):
            _logger.warning("the end of background job %s is stored, and not yet published", job.id)

    def _outcome(self, running: RunningJob, call: Call) -> Outcome:
        job = running.job
        try:
            with running_in(running):
                response = call()
            if isinstance(running.error, JobCancelled):
                return Outcome()
            check_response(len(response.body), self.bounds)
        except JobCancelled:
            return Outcome()
        except BaseException as error:  # noqa: BLE001 - a SystemExit ends the job, not the thread
            return Outcome(failure=_failure_of(job, error))
        return Outcome(response=response)

    def _finish(self, running: RunningJob, outcome: Outcome) -> Job | None:
        """Store the outcome. Returns the job to publish; None if it was not stored, or had ended before."""
        job, (is_changed, progress, message) = running.job, running.take_change()
        deadline_s = time.monotonic() + self.bounds.lease_s
        while True:
            try:
                if is_changed:
                    self.store.renew(job, progress=progress, message=message)
                if not self.store.finish(job, outcome):
                    _logger.warning("the result of background job %s is discarded: its lease had ended", job.id)
                    return None
            except TidingsError:
                if time.monotonic() >= deadline_s:
                    _logger.exception("the result of background job %s was not stored", job.id)
                    return None
                time.sleep(1)
            else:
                return replace(job, state=outcome.state, progress=progress, message=message, failure=outcome.failure)

    def _end_lost(self, job: Job) -> None:
        failure = lost(job.id)
        if self.store.finish(job, Outcome(failure=failure)):
            self._publish([replace(job, state=Outcome(failure=failure).state, failure=failure)])

    def _publish(self, jobs: Sequence[Job]) -> None:
        """Publish the state of jobs in their users' channels. A failure is passed to `on_error`."""
        if not jobs:
            return
        batch = self._emitter().batch().begin()
        for job in jobs:
            id_ = f"job-{job.id}-{job.state.value}" if job.state.has_ended else None
            batch.emit(EVENT, job.event_data(), user=job.user, id=id_)
        deliver(batch, self._on_error)


def check_response(size_bytes: int, bounds: JobBounds) -> None:
    """Check the size of a response's body.

    Raises:
        TooLarge: it is above `response_max_bytes`.
    """
    if size_bytes > bounds.response_max_bytes:
        raise TooLarge(
            f"the response has more than {bounds.response_max_bytes} bytes (response_max_bytes); "
            "store it elsewhere, and return its address"
        )


def collect_body(chunks: Iterable[bytes], bounds: JobBounds) -> bytes:
    """The body that a view streams.

    Raises:
        TooLarge: as `check_response`; then the rest is not read.
    """
    body = bytearray()
    for chunk in chunks:
        body += chunk
        check_response(len(body), bounds)
    return bytes(body)


def _failure_of(job: Job, error: BaseException) -> Failure:
    error_id = secrets.token_hex(6)
    _logger.error("background job %s (%s) failed, error_id=%s", job.id, job.function, error_id, exc_info=error)
    if isinstance(error, TooLarge):
        return Failure("too_large", str(error), error_id)
    return Failure("internal", "The job failed. The log of the server has the error_id.", error_id)


def _shut_down(reference: weakref.ref[BackgroundJobs]) -> None:
    jobs = reference()
    if jobs is None:
        return
    try:
        jobs.close()
    except TidingsError as error:
        _logger.warning("background jobs of this process were not ended: %s", error)
