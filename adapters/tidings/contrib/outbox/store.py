"""The outbox's table as a relay uses it: look, claim a shard, read, delete."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidings.contrib.outbox.locks import SILENCE_S, Locks, locks_for
from tidings.contrib.outbox.rows import SPACIOUS, Row
from tidings.contrib.outbox.table import NAME, own_table, sqlalchemy_module
from tidings.errors import BadConfig, MissingExtra

if TYPE_CHECKING:
    from sqlalchemy import URL, ColumnElement, Connection, Engine, Table

# The drivers that are taken where the URL names none; SQLAlchemy's own choices changed from version to version.
_DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}
_BACKENDS = (*_DRIVERS, "sqlite")
_NO_BACKEND = "an outbox is in postgresql://, mariadb://, mysql:// or sqlite:///file"
_CONNECT_S = 10
_ANSWER_S = 30
# A database that vanished without a word must not hold a relay for hours.
_PATIENCE: dict[str, dict[str, Any]] = {
    "psycopg": {
        "connect_timeout": _CONNECT_S,
        "keepalives_idle": _CONNECT_S,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": _ANSWER_S * 1000,
    },
    "pymysql": {
        "connect_timeout": _CONNECT_S,
        "read_timeout": _ANSWER_S,
        "write_timeout": _ANSWER_S,
        # The server ends the connection of a relay that is frozen, and its locks with it.
        "init_command": f"SET SESSION wait_timeout = {SILENCE_S}",
    },
    "pysqlite": {"timeout": _ANSWER_S},
}


@dataclass(frozen=True, slots=True)
class Lag:
    """How much waits: `waiting` rows; `failed` ones were put aside.

    `oldest_ms`: when the first that waits was written, in unix milliseconds; None if no row says it.
    """

    waiting: int
    oldest_ms: int | None
    failed: int


def open_engine(url: str) -> Engine:
    """An engine for a relay: each statement sees what is committed by then.

    Raises:
        BadConfig: not a URL of a database. The message does not repeat it: it may hold a password.
        MissingExtra: SQLAlchemy or the driver is not installed.
    """
    sa = sqlalchemy_module()
    try:
        parsed = _with_driver(sa.make_url(url))
        if parsed.get_backend_name() not in _BACKENDS:
            raise BadConfig(_NO_BACKEND)
        patience = _PATIENCE.get(parsed.get_driver_name(), {})
        options = {name: value for name, value in patience.items() if name not in parsed.query}
        more: dict[str, Any] = {"pool_recycle": SILENCE_S // 2}
        if parsed.get_backend_name() != "sqlite":
            more["isolation_level"] = "READ COMMITTED"
        engine: Engine = sa.create_engine(parsed, connect_args=options, hide_parameters=True, **more)
    except sa.exc.NoSuchModuleError as error:
        raise BadConfig(_NO_BACKEND) from error
    except (sa.exc.ArgumentError, ValueError) as error:
        raise BadConfig("not a database's URL; its form is postgresql://user:password@host/database") from error
    except ImportError as error:
        driver = "psycopg[binary]" if error.name in {None, "psycopg"} else error.name
        raise MissingExtra(f"this database needs a driver: pip install '{driver}'") from error
    return engine


def _with_driver(url: URL) -> URL:
    name = url.drivername
    return url.set(drivername=f"{name}+{_DRIVERS[name]}") if name in _DRIVERS else url


class OutboxStore:
    """One outbox in one database.

    Raises:
        BadConfig: not a table's name, or not a database that the outbox knows.
    """

    def __init__(self, engine: Engine, name: str = NAME, *, publication_max_bytes: int) -> None:
        self.engine = engine
        self.table: Table = own_table(name)
        self._locks: Locks = locks_for(engine, self.table)
        self.shards = self._locks.shards
        self._data_max = SPACIOUS * publication_max_bytes

    def create(self) -> None:
        """Make the table if it is not there."""
        self.table.create(self.engine, checkfirst=True)

    def check(self) -> None:
        """See that the table is there, with its columns.

        Raises:
            BadConfig: it is not.
        """
        sa = sqlalchemy_module()
        found = sa.inspect(self.engine)
        try:
            columns = {column["name"] for column in found.get_columns(self.table.name, schema=self.table.schema)}
        except sa.exc.NoSuchTableError:
            columns = set()
        if not columns:
            raise BadConfig(f"there is no table {self.table.fullname}; make it with --create, or in your migrations")
        if missing := {column.name for column in self.table.c} - columns:
            raise BadConfig(f"the table {self.table.fullname} has no column {', '.join(sorted(missing))}")

    def shards_with_rows(self, without: Collection[str], limit: int) -> list[int]:
        """The shards of the first `limit` rows that wait; all shards where there are more rows than that."""
        sa = sqlalchemy_module()
        shard = self._locks.shard_of(self.table)
        wanted = sa.select(shard).where(*self._waiting(without)).order_by(self.table.c.row_no).limit(limit)
        with self.engine.connect() as connection:
            found = [int(number) for number in connection.scalars(wanted)]
        return list(range(self.shards)) if len(found) == limit else sorted(set(found))

    @contextmanager
    def claim(self, shard: int) -> Iterator[Claim | None]:
        """The rows of one shard for us alone, in a transaction that ends with the block; None: they are another's."""
        with self.engine.connect() as connection:
            if not self._locks.take(connection, shard):
                yield None
                return
            try:
                yield Claim(self, connection, shard)
                self.commit(connection)
            finally:
                try:
                    connection.rollback()
                finally:
                    # With a lost connection the lock has gone as well.
                    if not connection.invalidated:
                        self._locks.free(connection, shard)

    def commit(self, connection: Connection) -> None:
        """End a claim's transaction."""
        connection.commit()

    def lag(self) -> Lag:
        """What waits now. It reads the whole table."""
        sa = sqlalchemy_module()
        columns = self.table.c
        with self.engine.connect() as connection:
            waiting, oldest_ms = connection.execute(
                sa.select(sa.func.count(), sa.func.min(columns.at_ms)).where(columns.failed.is_(None))
            ).one()
            failed = connection.scalar(sa.select(sa.func.count()).where(columns.failed.is_not(None)))
        return Lag(int(waiting), None if oldest_ms is None else int(oldest_ms), int(failed or 0))

    def rows(self, connection: Connection, shard: int, without: Collection[str], limit: int) -> list[Row]:
        """The first rows of a shard, in order; all of one transaction become visible at once."""
        sa = sqlalchemy_module()
        columns = self.table.c
        data = sa.case((sa.func.length(columns.data) <= self._data_max, columns.data), else_=None)
        wanted = (
            sa.select(columns.row_no, columns.id, columns.channel, columns.event, data, columns.at_ms)
            .where(self._locks.shard_of(self.table) == shard, *self._waiting(without))
            .order_by(columns.row_no)
            .limit(limit)
        )
        return [Row(*found) for found in connection.execute(wanted)]

    def settle(self, connection: Connection, published: Sequence[int], refused: Mapping[int, str]) -> None:
        """Delete what was published; keep what cannot be, with the reason."""
        columns = self.table.c
        if published:
            connection.execute(self.table.delete().where(columns.row_no.in_(published)))
        for row_no, reason in refused.items():
            put_aside = self.table.update().where(columns.row_no == row_no)
            connection.execute(put_aside.values(failed=reason, attempts=columns.attempts + 1))

    def _waiting(self, without: Collection[str]) -> list[ColumnElement[bool]]:
        columns = self.table.c
        waiting: list[ColumnElement[bool]] = [columns.failed.is_(None)]
        return [*waiting, columns.channel.not_in(without)] if without else waiting


@dataclass(frozen=True, slots=True)
class Claim:
    """One shard while it is ours."""

    store: OutboxStore
    connection: Connection
    shard: int

    def rows(self, without: Collection[str], limit: int) -> list[Row]:
        """See `Store.rows`."""
        return self.store.rows(self.connection, self.shard, without, limit)

    def settle(self, published: Sequence[int], refused: Mapping[int, str]) -> None:
        """See `Store.settle`."""
        self.store.settle(self.connection, published, refused)
