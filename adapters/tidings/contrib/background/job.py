"""What is known about a job, without I/O: its states, its end, and the data of its event."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from enum import StrEnum

from tidings.errors import TidingsError

# The event that a backend publishes in the user's own channel (PROTOCOL.md section 5).
EVENT = "tidings:job"
MESSAGE_MAX = 500
FUNCTION_MAX = 200
LOCATION_MAX = 500
_ID_BYTES = 16


class JobState(StrEnum):
    """A job waits, runs, and ends once: `DONE` with a response, `FAILED`, or `CANCELLED`."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def has_ended(self) -> bool:
        """Whether nothing more happens to the job."""
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


class JobCancelled(TidingsError):
    """Raised by `job.progress` and `job.check` in a function whose job was cancelled. Let it pass."""

    code_name = "cancelled"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job has no response: a code of `codes.py`, a text for the user, and the id of the log's entry."""

    code: str
    message: str
    error_id: str


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A status, header fields in order, and a body."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Job:
    """One call of a view's function. `location` is the path of the job's own resource.

    `progress` is a number from 0 to 1, or None. `owner` names the process and the run that renews its lease.
    `response` is set if the state is DONE, `failure` if it is FAILED.
    """

    id: str
    user: str
    function: str
    location: str
    owner: str = ""
    state: JobState = JobState.QUEUED
    progress: float | None = None
    message: str = ""
    is_cancel_requested: bool = False
    response: StoredResponse | None = None
    failure: Failure | None = None

    def event_data(self) -> dict[str, object]:
        """The data of the event, which is also the body of a 202 response."""
        return {
            "id": self.id,
            "location": self.location,
            "state": self.state.value,
            "progress": self.progress,
            "message": self.message,
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: exactly one of a response, a failure, and a cancel."""

    response: StoredResponse | None = None
    failure: Failure | None = None

    @property
    def state(self) -> JobState:
        """The state that the job has from now on."""
        if self.response is not None:
            return JobState.DONE
        return JobState.CANCELLED if self.failure is None else JobState.FAILED


def new_job_id() -> str:
    """128 random bits: no user guesses the location of another one's job."""
    return secrets.token_hex(_ID_BYTES)


def new_owner() -> str:
    """The name of one run. Another process that takes over a name could end the wrong run."""
    return secrets.token_hex(8)


def lost(job_id: str) -> Failure:
    """The failure of a job whose process renews its lease no longer."""
    return Failure("unavailable", "The process that ran the job ended. Begin it again.", job_id[:12])
