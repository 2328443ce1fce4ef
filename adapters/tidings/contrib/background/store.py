"""What a store of jobs does.

Each method is one atomic step. Times are those of the store: in Redis its own clock, in SQL that of the machine.
"""

from __future__ import annotations

from typing import Protocol

from tidings.contrib.background.job import Job, Outcome

TIMEOUT_S = 5.0
# How many lapsed jobs one call reports.
LAPSED_MAX = 100


class JobStore(Protocol):
    """Where the state of jobs outlives the process that runs them.

    Every method raises Unavailable if the store does not reply.
    """

    def create(self, job: Job, request: bytes, *, lease_s: float) -> None:
        """Store a new job, which is queued. `request` is kept until the job starts.

        Raises:
            TooFast: the user has `user_jobs_max` jobs that have not ended. Full: `queue_max` jobs wait.
        """

    def remove(self, job_id: str) -> None:
        """Delete a job, as if it had not been begun."""

    def start(self, job_id: str, owner: str, new_owner: str) -> tuple[Job, bytes] | None:
        """Let a queued job of `owner` run, as that of `new_owner`. Returns it with its request.

        None: it is not queued, because it runs, was cancelled, or its lease ended.
        """

    def renew(self, job: Job, *, progress: float | None, message: str) -> Job | None:
        """Renew the lease of `job.owner`, and store the progress. None: the job is not of this owner, or has ended."""

    def finish(self, job: Job, outcome: Outcome) -> bool:
        """End a running job of `job.owner`. False: it has ended already."""

    def cancel(self, job_id: str) -> Job | None:
        """End a queued job, or request that a running one ends. Returns the job after that; None if there is none."""

    def read(self, job_id: str) -> Job | None:
        """The job; None if there is none."""

    def end_lapsed(self) -> list[Job]:
        """End jobs whose lease has ended, at most `LAPSED_MAX`. Returns those that this call has ended."""

    def close(self) -> None:
        """Close idle connections."""
