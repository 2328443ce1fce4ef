"""Who publishes which rows: a lock per shard, which ends with whoever holds it.

A channel belongs to one shard, and only who holds its lock publishes its rows: so several relays never change a
channel's order. The locks are the database's own, so that a relay that is killed or cut off holds nothing. All relays
of one table must agree on `SHARDS`.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from typing import TYPE_CHECKING, Any, Protocol

from tidings.contrib.outbox.table import sqlalchemy_module
from tidings.errors import BadConfig

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table

# As many relays can publish at once; a power of two.
SHARDS = 8
# More than a claim takes with a slow broker (`relay.TURN_MAX_S` and a last timeout).
SILENCE_S = 60


class Locks(Protocol):
    """`shards`: how many there are; they are numbered from 0."""

    shards: int

    def shard_of(self, table: Table) -> Any:
        """The SQL that says a row's shard."""

    def take(self, connection: Connection, shard: int) -> bool:
        """Whether the lock is ours now; never waits."""

    def free(self, connection: Connection, shard: int) -> None:
        """Give it back, after the transaction."""


def locks_for(engine: Engine, table: Table) -> Locks:
    """The locks of this database.

    Raises:
        BadConfig: it is in memory.
    """
    match engine.dialect.name:
        case "postgresql":
            return PostgresqlLocks(table)
        case "mysql" | "mariadb":
            return MysqlLocks(table)
        case _:
            return SqliteLocks(engine.url.database, table)


class PostgresqlLocks:
    """Advisory locks of the transaction: they also work behind a PgBouncer that pools transactions.

    The database ends a transaction that is silent for `SILENCE_S`: a relay that is frozen holds no shard for long.
    """

    shards = SHARDS

    def __init__(self, table: Table) -> None:
        # Two keys of 32 bits, signed; advisory locks belong to one database.
        self._key = zlib.crc32(f"tidings:{table.fullname}".encode()) - 2**31

    def shard_of(self, table: Table) -> Any:
        """See `Locks`."""
        # Not `bitwise_and`, which SQLAlchemy 2.0.0 does not have.
        return sqlalchemy_module().func.hashtext(table.c.channel).op("&")(SHARDS - 1)

    def take(self, connection: Connection, shard: int) -> bool:
        """See `Locks`."""
        sa = sqlalchemy_module()
        key, number = (sa.cast(value, sa.Integer) for value in (self._key, shard))
        lock = sa.func.pg_try_advisory_xact_lock(key, number)
        limit = sa.func.set_config("idle_in_transaction_session_timeout", f"{SILENCE_S}s", sa.true())
        return bool(connection.execute(sa.select(lock, limit)).one()[0])

    def free(self, connection: Connection, shard: int) -> None:
        """See `Locks`: it ended with the transaction."""


class MysqlLocks:
    """Named locks of the connection (`GET_LOCK`). Names belong to the whole server, and have at most 64 characters."""

    shards = SHARDS

    def __init__(self, table: Table) -> None:
        self._table = table.fullname

    def shard_of(self, table: Table) -> Any:
        """See `Locks`."""
        return sqlalchemy_module().func.crc32(table.c.channel).op("&")(SHARDS - 1)

    def take(self, connection: Connection, shard: int) -> bool:
        """See `Locks`."""
        sa = sqlalchemy_module()
        return bool(connection.scalar(sa.select(sa.func.get_lock(self._name(shard), 0))))

    def free(self, connection: Connection, shard: int) -> None:
        """See `Locks`."""
        sa = sqlalchemy_module()
        connection.scalar(sa.select(sa.func.release_lock(self._name(shard))))

    def _name(self, shard: int) -> Any:
        func = sqlalchemy_module().func
        place = func.concat(func.database(), ".", self._table)
        return func.concat("tidings:", func.sha1(place), ":", str(shard))


class SqliteLocks:
    """One lock for the whole table: a file beside the database's.

    A transaction would do, but while it waits for the broker nobody else could write: SQLite has one writer.
    """

    shards = 1

    def __init__(self, database: str | None, table: Table) -> None:
        if not database or database == ":memory:" or database.startswith("file:"):
            raise BadConfig("an outbox in SQLite needs a file that the backend opens too: sqlite:////folder/file.db")
        self._path = f"{database}.{table.fullname}.lock"
        self._fd: int | None = None

    def shard_of(self, table: Table) -> Any:
        """See `Locks`."""
        return sqlalchemy_module().literal(0)

    def take(self, connection: Connection, shard: int) -> bool:
        """See `Locks`."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if isinstance(error, BlockingIOError):
                return False
            raise
        self._fd = fd
        return True

    def free(self, connection: Connection, shard: int) -> None:
        """See `Locks`. The file stays: who removes it could lock one that others no longer see."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
