"""One database: its engine, and transactions that read or write."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection

from tidings.backoff import delay_s
from tidings.contrib.outbox.driver_statement import has_driver_statements
from tidings.contrib.outbox.store import open_engine
from tidings.errors import BadConfig, Unavailable
from tidings_notifications.store.failures import can_be_retried, commit_error, database_errors

__all__ = ["Connection", "Database", "Overtaken"]

Result = TypeVar("Result")

ATTEMPTS_MAX = 8
# A transaction takes milliseconds. One that is idle for so long is that of a process that was stopped or cut off.
# Its other transactions may wait for the same locks, and would keep them one after the other.
LOCK_MAX_S = 5
_WRITES = "tidings_writes"
# As many connections as the pool has. A server that sends something on each new one must not cause more.
_REPLACED_MAX = 15


class Overtaken(Exception):
    """Nothing was written: the same has to be tried again, in a transaction."""


class Database:
    """A database of notifications. Threads may share it.

    `url`: `sqlite:///file`, `postgresql://…`, `mariadb://…` or `mysql://…`. A new SQLite file is readable only by its
    user. `lock_max_s`: PostgreSQL ends a transaction that waits so long for its process or for a lock, so that a frozen
    process does not keep inboxes locked. MySQL does so after `wait_timeout`, and SQLite has one process.

    Raises:
        BadConfig: another URL, or SQLite in memory. MissingExtra: the driver is not installed.
    """

    def __init__(self, url: str, *, lock_max_s: float = LOCK_MAX_S) -> None:
        self.engine = open_engine(url)
        self.url = url
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self.is_postgresql = self.engine.dialect.name == "postgresql"
        # Whether `without_transaction` can be used: PostgreSQL with psycopg.
        self.has_driver_statements = has_driver_statements(self.engine)
        # For it alone. SQLAlchemy would change the mode of another connection twice for each use.
        self._autocommit = open_engine(url, isolation_level="AUTOCOMMIT") if self.has_driver_statements else None
        # How often a transaction began again, because another one was in its way.
        self.retries = 0
        if self.is_sqlite:
            self._inode = self._create_file()
            sa.event.listen(self.engine, "connect", _on_connect)
            sa.event.listen(self.engine, "begin", _on_begin)
        if self.is_postgresql:
            sa.event.listen(self.engine, "connect", partial(_limit_locks, int(lock_max_s * 1000)))
        if self._autocommit is not None:
            sa.event.listen(self._autocommit, "connect", partial(_limit_locks, int(lock_max_s * 1000)))
            sa.event.listen(self._autocommit, "connect", _plan_for_few_rows)

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` in a transaction that reads.

        Raises:
            BadConfig: the tables are missing. Unavailable: the database failed.
        """
        try:
            return self._read(work)
        except sa.exc.DBAPIError as error:
            if not error.connection_invalidated:
                with database_errors():
                    raise
        # The database had closed an idle connection of the pool. With the first error, the pool replaces all of them.
        with database_errors():
            return self._read(work)

    def _read(self, work: Callable[[Connection], Result]) -> Result:
        with self.engine.connect() as connection, connection.begin():
            return work(connection)

    def write(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` in a transaction that writes, and commit. It runs again if another transaction was in its way.

        Raises:
            BadConfig: the tables are missing. BadData: a value does not fit. Unavailable: the database failed, and
            nothing was changed. TimedOut: the connection broke at the commit.
        """
        for attempt in range(ATTEMPTS_MAX):
            try:
                with self.writing() as connection:
                    return work(connection)
            except sa.exc.DBAPIError as error:
                # Before the commit nothing is written. The database may have closed an idle connection of the pool.
                if not can_be_retried(error) and not (error.connection_invalidated and attempt == 0):
                    with database_errors():
                        raise
                self.retries += 1
            except sa.exc.SQLAlchemyError:
                with database_errors():
                    raise
            time.sleep(delay_s(attempt, base_s=0.01, cap_s=0.5))
        raise Unavailable(f"the database is too busy: {ATTEMPTS_MAX} attempts met other transactions; try again")

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction that writes, which the block's end commits. Errors are the database's own, but for a commit.

        Raises:
            TimedOut: the connection broke at the commit. Unavailable: the commit failed.
        """
        self._check_file()
        with self.engine.connect().execution_options(**{_WRITES: True}) as connection:
            transaction = connection.begin()
            try:
                yield connection
            except BaseException:
                _roll_back(transaction)
                raise
            try:
                transaction.commit()
            except sa.exc.SQLAlchemyError as error:
                if isinstance(error, sa.exc.DBAPIError) and can_be_retried(error):
                    raise
                raise commit_error(error) from error

    @contextmanager
    def without_transaction(self) -> Iterator[Connection]:
        """A connection on which each statement commits by itself.

        Raises:
            Overtaken: another transaction was in the way, or the connection broke. Otherwise see `write`.
        """
        try:
            with self._open_connection() as connection:
                yield connection
        except sa.exc.DBAPIError as error:
            if isinstance(error, sa.exc.IntegrityError) or error.connection_invalidated or can_be_retried(error):
                raise Overtaken from error
            with database_errors():
                raise

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()
        if self._autocommit is not None:
            self._autocommit.dispose()

    def _open_connection(self) -> Connection:
        """A connection of the pool that PostgreSQL has not closed while it was idle.

        The result of a first statement that writes would otherwise be unknown. A ping would be one more round trip.
        """
        engine = self._autocommit or self.engine
        for _ in range(_REPLACED_MAX):
            connection = engine.connect()
            if not _was_closed(connection):
                return connection
            connection.invalidate()
            connection.close()
        return engine.connect()

    def _create_file(self) -> int:
        """Create the file of SQLite unless it exists. Returns its inode."""
        path = self.engine.url.database
        if not path or path == ":memory:" or path.startswith("file:"):
            raise BadConfig("notifications in SQLite need a database file: sqlite:////folder/file.db")
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            return Path(path).stat().st_ino
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise BadConfig(f"cannot open the database file {path!a:.200}: {reason}") from error

    def _check_file(self) -> None:
        """Return if the path still has the file that SQLite writes to. Another one is opened from now on.

        SQLite itself goes on writing to a file that was deleted, and the rows end with the process.

        Raises:
            Unavailable: the file was deleted.
        """
        path = self.engine.url.database
        if not self.is_sqlite or not path:
            return
        try:
            inode = Path(path).stat().st_ino
        except OSError as error:
            raise Unavailable(f"the database file {path} was deleted: restore it") from error
        if inode != self._inode:
            self._inode = inode
            self.engine.dispose()


def _was_closed(connection: Connection) -> bool:
    """Whether PostgreSQL has closed an idle connection: only then something waits to be read."""
    driver: Any = connection.connection.driver_connection
    if driver.closed:
        return True
    poll = select.poll()
    poll.register(driver.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _roll_back(transaction: sa.RootTransaction) -> None:
    """Roll back. If that fails too, the connection is lost, and the error before it has the cause."""
    try:
        transaction.rollback()
    except sa.exc.DBAPIError:
        transaction.connection.invalidate()


def _on_connect(connection: Any, _record: object) -> None:
    """Let SQLAlchemy begin transactions, not the driver; readers do not wait for the writer."""
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")


def _limit_locks(max_ms: int, connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        for name in ("idle_in_transaction_session_timeout", "lock_timeout"):
            cursor.execute(f"SET SESSION {name} = {max_ms}")
    # Otherwise the pool rolls it back.
    connection.commit()


def _plan_for_few_rows(connection: Any, _record: object) -> None:
    """Let PostgreSQL find each row by its index, with one plan for all batches.

    By itself it plans for the size that the tables have at the first batches. While they are small, that is to read all
    of their rows, and the plan remains until the next ANALYZE: each batch then costs more than the one before.
    """
    with connection.cursor() as cursor:
        for name in ("enable_seqscan", "enable_hashjoin", "enable_mergejoin"):
            cursor.execute(f"SET SESSION {name} = off")
        cursor.execute("SET SESSION plan_cache_mode = force_generic_plan")


def _on_begin(connection: Connection) -> None:
    """Take SQLite's lock for writers at once: a reader that becomes a writer could fail without a wait."""
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITES) else "BEGIN")
