"""The bounds of background jobs. Each is an option with its unit in its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from tidings.errors import BadConfig, TooLarge
from tidings.number_checks import check_count, check_seconds


@dataclass(frozen=True, slots=True)
class JobBounds:
    """Bounds for all jobs of one store. docs/background-jobs.md says what happens at each.

    threads: jobs that run at the same time in one process.
    queue_max: jobs of all users that have not started.
    user_jobs_max: jobs of one user that have not ended.
    user_results_max: ended jobs of one user that are stored; the oldest ones are deleted.
    request_max_bytes, response_max_bytes: of a body.
    expiry_s: how long an ended job is stored.
    lease_s: a job whose process has not renewed its lease for so long has failed.
    queued_max_s: a job that no Celery worker has started for so long has failed.
    progress_interval_s: time between two events of progress.
    shutdown_s: how long a process that ends waits for jobs that run.

    Raises:
        BadConfig: a value is not a number of this kind.
    """

    threads: int = 4
    queue_max: int = 100
    user_jobs_max: int = 5
    user_results_max: int = 20
    request_max_bytes: int = 1024 * 1024
    response_max_bytes: int = 5 * 1024 * 1024
    expiry_s: float = 3600.0
    lease_s: float = 30.0
    queued_max_s: float = 3600.0
    progress_interval_s: float = 0.5
    shutdown_s: float = 10.0

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if name.endswith("_s"):
                check_seconds(value, name, is_zero_valid=name == "shutdown_s")
            else:
                check_count(value, name)
        if self.lease_s < 2 * self.progress_interval_s:
            raise BadConfig("lease_s must be at least twice progress_interval_s: a lease is renewed at that pace")

    @classmethod
    def of(cls, settings: Mapping[str, Any], where: str) -> Self:
        """The bounds in a framework's settings, whose names are in capitals. `where` names them in messages.

        Raises:
            BadConfig: an unknown name, or an invalid value.
        """
        names = [field.name for field in fields(cls)]
        if unknown := sorted(map(str, settings.keys() - {name.upper() for name in names})):
            raise BadConfig(f"unknown settings in {where}: {', '.join(unknown)}; see docs/background-jobs.md")
        return cls(**{name.lower(): value for name, value in settings.items()})

    def check_request(self, size_bytes: int) -> None:
        """Check the size of a request's body.

        Raises:
            TooLarge: it is above `request_max_bytes`.
        """
        if size_bytes > self.request_max_bytes:
            raise TooLarge(
                f"a request of {size_bytes} bytes for a background job; request_max_bytes is {self.request_max_bytes}"
            )
