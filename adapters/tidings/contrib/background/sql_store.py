"""Jobs in a database, through SQLAlchemy. Each step is one transaction, and its first statement writes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tidings.contrib.background.bounds import JobBounds
from tidings.contrib.background.job import Failure, Job, JobState, Outcome, StoredResponse, lost
from tidings.contrib.background.sql_table import own_jobs_table
from tidings.contrib.background.store import LAPSED_MAX
from tidings.contrib.outbox.driver_options import file_of
from tidings.contrib.outbox.store import open_engine
from tidings.contrib.outbox.table import sqlalchemy_module
from tidings.errors import BadConfig, Full, TooFast, Unavailable

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

_ACTIVE = (JobState.QUEUED.value, JobState.RUNNING.value)


class SqlJobStore:
    """A `JobStore` in the table of `jobs_table`. Connects at the first call.

    Threads share it, and a forked process opens its own connections. The clocks of all machines must agree within a
    part of `lease_s`.
    """

    def __init__(self, url: str, bounds: JobBounds) -> None:
        self._bounds = bounds
        self._engine = open_engine(url)
        self._table = own_jobs_table()
        self._pid = os.getpid()

    def create_table(self) -> None:
        """Create the table unless it exists."""
        with self._reported():
            self._table.create(self._engine, checkfirst=True)

    def create(self, job: Job, request: bytes, *, lease_s: float) -> None:
        """See `JobStore.create`."""
        bounds, columns, sa = self._bounds, self._table.c, sqlalchemy_module()
        row = {
            **{name: getattr(job, name) for name in ("id", "user", "function", "location", "owner", "message")},
            "state": job.state.value,
            "is_cancel_requested": False,
            "request": request,
            "lease_ms": _now_ms() + _ms(lease_s),
        }
        with self._transaction() as connection:
            connection.execute(self._table.insert().values(**row))
        # Counted after the commit: of calls at the same time, the last one sees all others. At a bound two of them may
        # both be refused; never is one too many accepted.
        count = sa.select(sa.func.count()).select_from(self._table)
        with self._transaction() as connection:
            own = connection.scalar(count.where(columns.user == job.user, columns.lease_ms.is_not(None)))
            waiting = connection.scalar(count.where(columns.state == JobState.QUEUED.value))
        if own > bounds.user_jobs_max:
            self.remove(job.id)
            raise TooFast(
                f"this user has {bounds.user_jobs_max} jobs that have not ended; wait, or raise user_jobs_max"
            )
        if waiting > bounds.queue_max:
            self.remove(job.id)
            raise Full(f"{bounds.queue_max} jobs wait already; try again later, or raise queue_max")

    def remove(self, job_id: str) -> None:
        """See `JobStore.remove`."""
        with self._transaction() as connection:
            connection.execute(self._table.delete().where(self._table.c.id == job_id))

    def start(self, job_id: str, owner: str, new_owner: str) -> tuple[Job, bytes] | None:
        """See `JobStore.start`."""
        columns, now_ms = self._table.c, _now_ms()
        conditions = (columns.state == JobState.QUEUED.value, columns.owner == owner, columns.lease_ms > now_ms)
        lease_ms = now_ms + _ms(self._bounds.lease_s)
        with self._transaction() as connection:
            changed = {"state": JobState.RUNNING.value, "owner": new_owner, "lease_ms": lease_ms}
            if not self._update(connection, job_id, *conditions, **changed):
                return None
            row = self._row(connection, job_id)
        return None if row is None else (_job(row), row.request or b"")

    def renew(self, job: Job, *, progress: float | None, message: str) -> Job | None:
        """See `JobStore.renew`."""
        columns = self._table.c
        values = {"lease_ms": _now_ms() + _ms(self._bounds.lease_s), "progress": progress, "message": message}
        with self._transaction() as connection:
            if not self._update(connection, job.id, columns.owner == job.owner, columns.state.in_(_ACTIVE), **values):
                return None
            query = sqlalchemy_module().select(columns.is_cancel_requested).where(columns.id == job.id)
            is_cancel_requested = bool(connection.scalar(query))
        return replace(job, progress=progress, message=message, is_cancel_requested=is_cancel_requested)

    def finish(self, job: Job, outcome: Outcome) -> bool:
        """See `JobStore.finish`."""
        columns, response = self._table.c, outcome.response
        values: dict[str, Any] = {}
        if response is not None:
            headers = json.dumps(response.headers)
            values = {"status": response.status, "headers": headers, "body": response.body}
        if outcome.failure is not None:
            values = {"failure": _encoded(outcome.failure)}
        with self._transaction() as connection:
            conditions = (columns.owner == job.owner, columns.state == JobState.RUNNING.value)
            return self._end(connection, job.id, outcome.state, *conditions, **values)

    def cancel(self, job_id: str) -> Job | None:
        """See `JobStore.cancel`."""
        columns = self._table.c
        with self._transaction() as connection:
            is_queued = columns.state == JobState.QUEUED.value
            if not self._end(connection, job_id, JobState.CANCELLED, is_queued, is_cancel_requested=True):
                is_running = columns.state == JobState.RUNNING.value
                self._update(connection, job_id, is_running, is_cancel_requested=True)
            row = self._row(connection, job_id)
        return None if row is None else _job(row)

    def read(self, job_id: str) -> Job | None:
        """See `JobStore.read`."""
        with self._transaction() as connection:
            row = self._row(connection, job_id)
        return None if row is None else _job(row)

    def end_lapsed(self) -> list[Job]:
        """See `JobStore.end_lapsed`. It also deletes expired jobs."""
        columns, sa, now_ms = self._table.c, sqlalchemy_module(), _now_ms()
        with self._transaction() as connection:
            connection.execute(self._table.delete().where(columns.expires_ms <= now_ms))
        has_lapsed = columns.lease_ms <= now_ms
        with self._transaction() as connection:
            ids = list(connection.scalars(sa.select(columns.id).where(has_lapsed).limit(LAPSED_MAX)))
        ended = []
        for job_id in ids:
            with self._transaction() as connection:
                failure = _encoded(lost(job_id))
                if self._end(connection, job_id, JobState.FAILED, has_lapsed, failure=failure):
                    row = self._row(connection, job_id)
                    ended += [] if row is None else [_job(row)]
        return ended

    def close(self) -> None:
        """See `JobStore.close`."""
        self._engine.dispose()

    def _end(self, connection: Connection, job_id: str, state: JobState, *conditions: Any, **values: Any) -> bool:
        """End a job that satisfies the conditions, and delete the user's oldest ended jobs."""
        columns, sa, now_ms = self._table.c, sqlalchemy_module(), _now_ms()
        ended = {"ended_ms": now_ms, "expires_ms": now_ms + _ms(self._bounds.expiry_s)}
        cleared = {"lease_ms": None, "request": None}
        if not self._update(connection, job_id, *conditions, state=state.value, **ended, **cleared, **values):
            return False
        user = connection.scalar(sa.select(columns.user).where(columns.id == job_id))
        newest_first = (columns.ended_ms.desc(), columns.id.desc())
        query = sa.select(columns.id).where(columns.user == user, columns.ended_ms.is_not(None)).order_by(*newest_first)
        if surplus := list(connection.scalars(query))[self._bounds.user_results_max :]:
            connection.execute(self._table.delete().where(columns.id.in_(surplus)))
        return True

    def _update(self, connection: Connection, job_id: str, *conditions: Any, **values: Any) -> bool:
        statement = self._table.update().where(self._table.c.id == job_id, *conditions).values(**values)
        return bool(connection.execute(statement).rowcount)

    def _row(self, connection: Connection, job_id: str) -> Row[Any] | None:
        columns, sa = self._table.c, sqlalchemy_module()
        is_stored = sa.or_(columns.expires_ms.is_(None), columns.expires_ms > _now_ms())
        row: Row[Any] | None = connection.execute(
            sa.select(self._table).where(columns.id == job_id, is_stored)
        ).one_or_none()
        return row

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        if self._pid != os.getpid():
            # Forked: the parent still uses the connections that this process has copies of.
            self._engine.dispose(close=False)
            self._pid = os.getpid()
        with self._reported(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _reported(self) -> Iterator[None]:
        sa = sqlalchemy_module()
        try:
            yield
        except sa.exc.DBAPIError as error:
            if self._is_missing():
                table = f"{self._table.name}{file_of(self._engine.url)}"
                raise BadConfig(
                    f"there is no table {table}; add jobs_table(metadata) to your migrations (docs/background-jobs.md)"
                ) from error
            raise Unavailable(f"the database of background jobs: {str(error.orig)[:200]}") from error

    def _is_missing(self) -> bool:
        sa = sqlalchemy_module()
        try:
            return not sa.inspect(self._engine).has_table(self._table.name)
        except sa.exc.DBAPIError:
            return False


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _encoded(failure: Failure) -> str:
    return json.dumps([failure.code, failure.message, failure.error_id])


def _job(row: Row[Any]) -> Job:
    state, failure, response = JobState(row.state), None, None
    if row.failure:
        failure = Failure(*json.loads(row.failure))
    if state is JobState.DONE:
        headers = [(name, value) for name, value in json.loads(row.headers)]
        response = StoredResponse(row.status, headers, bytes(row.body))
    return Job(
        **{name: getattr(row, name) for name in ("id", "user", "function", "location", "owner", "message")},
        state=state,
        progress=row.progress,
        is_cancel_requested=bool(row.is_cancel_requested),
        response=response,
        failure=failure,
    )
