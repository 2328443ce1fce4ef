"""`job`: what a function sees of the job that it runs in. None of this does I/O."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Event

from tidings.contrib.background.job import MESSAGE_MAX, Job, JobCancelled, StoredResponse
from tidings.errors import BadRequest


class RunningJob:
    """A job that this process runs. `on_change` wakes the thread that stores the progress.

    `error`: what the function raised; a framework may have made a response of it. `result`: what it returned, where
    middleware may replace it. `has_returned`: the function
    has ended, and this process stores its end. `published`: so is the event.
    """

    def __init__(self, job: Job, on_change: Callable[[], None]) -> None:
        self.job = job
        self.is_cancelled = False
        self.error: BaseException | None = None
        self.result: StoredResponse | None = None
        self.has_returned = False
        self.published = Event()
        self._on_change = on_change
        self._progress = job.progress
        self._message = job.message
        # The start is a change as well.
        self._is_changed = True

    def set_progress(self, value: float, message: str) -> None:
        """See `CurrentJob.progress`."""
        if not is_progress(value, message):
            raise BadRequest("progress is a number from 0 to 1, and a text")
        self._progress, self._message = min(max(float(value), 0.0), 1.0), message[:MESSAGE_MAX]
        if not self._is_changed:
            self._is_changed = True
            self._on_change()
        self.check()

    def check(self) -> None:
        """See `CurrentJob.check`."""
        if self.is_cancelled:
            raise JobCancelled

    def take_change(self) -> tuple[bool, float | None, str]:
        """Whether there is progress since the last call, and the progress."""
        is_changed, self._is_changed = self._is_changed, False
        return is_changed, self._progress, self._message


def is_progress(value: object, message: object) -> bool:
    """Whether these are a number, which NaN is not, and a text."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and not math.isnan(value) and isinstance(message, str)  # type: ignore[arg-type]  # a number here


class CurrentJob:
    """The job of the function that calls. Outside of a job there is nothing to report and nothing is cancelled."""

    @property
    def id(self) -> str | None:
        """The id of the job; None outside of one."""
        running = running_job()
        return None if running is None else running.job.id

    @property
    def cancelled(self) -> bool:
        """Whether the user has cancelled the job, or its lease was lost. A second after the request at the latest."""
        running = running_job()
        return running is not None and running.is_cancelled

    def progress(self, value: float, message: str = "") -> None:
        """Report how much is done, from 0 to 1. Cheap: the last report of each `progress_interval_s` is published.

        Raises:
            JobCancelled: as `check`. BadRequest: not a number, or no text.
        """
        running = running_job()
        if running is not None:
            running.set_progress(value, message)

    def check(self) -> None:
        """End a cancelled job here.

        Raises:
            JobCancelled: the user has cancelled the job. Let it pass, or clean up and raise it again.
        """
        running = running_job()
        if running is not None:
            running.check()


_running: ContextVar[RunningJob | None] = ContextVar("tidings_job", default=None)
job = CurrentJob()


def running_job() -> RunningJob | None:
    """The job that the current context runs in."""
    return _running.get()


@contextmanager
def running_in(running: RunningJob) -> Iterator[None]:
    """Make `running` the current job of the block."""
    token = _running.set(running)
    try:
        yield
    finally:
        _running.reset(token)


@contextmanager
def errors_of(running: RunningJob) -> Iterator[None]:
    """Remember what the view's function raises, before its framework makes a response of it."""
    try:
        yield
    except BaseException as error:
        running.error = error
        raise
