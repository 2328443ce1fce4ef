"""Locks per shard, so that each row is published by one relay.

A channel belongs to one shard, and only the relay with the shard's lock publishes its rows. So several relays keep a
channel's order. The locks are the database's, so a relay that is killed or cut off loses its locks. All relays of one
table must have the same `SHARDS`.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from tidings.contrib.outbox.driver_statement import DriverStatement, has_driver_statements
from tidings.contrib.outbox.table import sqlalchemy_module
from tidings.errors import BadConfig

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table

# This many relays can publish at the same time. A power of two.
SHARDS = 8
# Longer than a claim takes with a slow broker (`relay.CLAIM_MAX_S` and one more timeout).
SILENCE_S = 60
# By the number of the table, which is the same whether its name has a schema or not. The locks belong to a database.
_TRY_LOCK = """
SELECT shard, pg_try_advisory_xact_lock(hashtext('tidings:' || CAST(to_regclass(:name) AS oid)), shard),
  set_config('idle_in_transaction_session_timeout', :limit, true), set_config('synchronous_commit', 'off', true)
FROM (SELECT CAST(json_array_elements_text(CAST(:shards AS JSON)) AS INTEGER) AS shard) AS wanted
"""


class Locks(Protocol):
    """Locks for `shards` shards, numbered from 0. `in_one_step`: to acquire all costs at most one statement."""

    shards: int
    in_one_step: bool

    def shard_of(self, table: Table) -> Any:
        """The SQL expression for a row's shard."""

    def acquire(self, connection: Connection, shards: Sequence[int]) -> list[int]:
        """Try to acquire the locks of some shards, without waiting. Returns those that it has acquired."""

    def release(self, connection: Connection, shards: Sequence[int]) -> None:
        """Release the locks, after the transaction."""


def locks_for(engine: Engine, table: Table) -> Locks:
    """The locks of this database.

    Raises:
        BadConfig: an SQLite database in memory.
    """
    match engine.dialect.name:
        case "postgresql":
            return PostgresqlLocks(engine, table)
        case "mysql" | "mariadb":
            return MysqlLocks(table)
        case _:
            return SqliteLocks(engine.url.database, table)


class PostgresqlLocks:
    """Advisory locks of the transaction. They also work behind a PgBouncer in transaction mode.

    The database ends a transaction that is idle for `SILENCE_S`, so a frozen relay loses its shard.

    The end of a claim does not wait for the disk: it deletes what has been published. If the database's machine
    crashes, the deletions of its last second are lost. The relay then publishes these rows again, and their ids
    suppress that.
    """

    shards = SHARDS
    in_one_step = True

    def __init__(self, engine: Engine, table: Table) -> None:
        self._table = table
        self._statement = sqlalchemy_module().text(_TRY_LOCK)
        self._driver_statement = DriverStatement(self._statement) if has_driver_statements(engine) else None

    def shard_of(self, table: Table) -> Any:
        """See `Locks`."""
        # Not `bitwise_and`, which SQLAlchemy 2.0.0 does not have.
        return sqlalchemy_module().func.hashtext(table.c.channel).op("&")(SHARDS - 1)

    def acquire(self, connection: Connection, shards: Sequence[int]) -> list[int]:
        """See `Locks`."""
        values = {
            "name": connection.dialect.identifier_preparer.format_table(self._table),
            "shards": json.dumps(shards),
            "limit": f"{SILENCE_S}s",
        }
        if self._driver_statement is None:
            rows: Iterable[Any] = connection.execute(self._statement, values)
        else:
            rows = self._driver_statement.execute(connection, values)
        return [int(shard) for shard, is_acquired, *_ in rows if is_acquired]

    def release(self, connection: Connection, shards: Sequence[int]) -> None:
        """See `Locks`. The locks have ended with the transaction."""


class MysqlLocks:
    """Named locks of the connection (`GET_LOCK`). Names are global on the server, with at most 64 characters."""

    shards = SHARDS
    in_one_step = False

    def __init__(self, table: Table) -> None:
        self._table = table

    def shard_of(self, table: Table) -> Any:
        """See `Locks`."""
        return sqlalchemy_module().func.crc32(table.c.channel).op("&")(SHARDS - 1)

    def acquire(self, connection: Connection, shards: Sequence[int]) -> list[int]:
        """See `Locks`."""
        sa = sqlalchemy_module()
        return [shard for shard in shards if connection.scalar(sa.select(sa.func.get_lock(self._name(shard), 0)))]

    def release(self, connection: Connection, shards: Sequence[int]) -> None:
        """See `Locks`."""
        sa = sqlalchemy_module()
        for shard in shards:
            connection.scalar(sa.select(sa.func.release_lock(self._name(shard))))

    def _name(self, shard: int) -> Any:
        func = sqlalchemy_module().func
        database = func.database() if self._table.schema is None else self._table.schema
        table_path = func.concat(database, ".", self._table.name)
        return func.concat("tidings:", func.sha1(table_path), ":", str(shard))


class SqliteLocks:
    """One lock for the whole table: a file beside the database.

    A transaction as the lock would block all other writers while it waits for the broker: SQLite has one writer.
    """

    shards = 1
    in_one_step = True

    def __init__(self, database: str | None, table: Table) -> None:
        if not database or database == ":memory:" or database.startswith("file:"):
            raise BadConfig(
                "an outbox in SQLite needs a database file that the backend also opens: sqlite:////folder/file.db"
            )
        # SQLite ignores the case of names, and has one schema for the file. A link has the lock of its database.
        self._path = f"{os.path.realpath(database)}.{table.name.lower()}.lock"
        self._fd: int | None = None

    def shard_of(self, table: Table) -> Any:
        """See `Locks`."""
        return sqlalchemy_module().literal(0)

    def acquire(self, connection: Connection, shards: Sequence[int]) -> list[int]:
        """See `Locks`."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if isinstance(error, BlockingIOError):
                return []
            raise
        self._fd = fd
        return list(shards)

    def release(self, connection: Connection, shards: Sequence[int]) -> None:
        """See `Locks`. The file stays: if one relay removed it, another might lock a file that no longer exists."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
