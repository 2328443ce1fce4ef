"""The relay's access to the outbox table: find shards with rows, claim a shard, read and delete rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidings.contrib.outbox.driver_options import check_url, file_of, report_unusable_options
from tidings.contrib.outbox.driver_statement import has_driver_statements
from tidings.contrib.outbox.locks import SILENCE_S, Locks, locks_for
from tidings.contrib.outbox.rows import WHITESPACE_FACTOR, Row
from tidings.contrib.outbox.statements import OutboxStatements
from tidings.contrib.outbox.table import NAME, own_table, sqlalchemy_module
from tidings.errors import BadConfig, MissingExtra

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine, Table

# The drivers for URLs without one. SQLAlchemy's defaults differ between versions.
_DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}
_BACKENDS = (*_DRIVERS, "sqlite")
# psycopg is installed, but neither psycopg[binary] nor the system's libpq.
_NO_LIBPQ = "no pq wrapper"
_UNSUPPORTED = "unsupported database; use postgresql://, mariadb://, mysql:// or sqlite:///file"
_CONNECT_S = 10
_RESPONSE_S = 30
# Timeouts, so that a relay does not wait for hours for a database that has disappeared.
_TIMEOUTS: dict[str, dict[str, Any]] = {
    "psycopg": {
        "connect_timeout": _CONNECT_S,
        "keepalives_idle": _CONNECT_S,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": _RESPONSE_S * 1000,
    },
    "pymysql": {
        "connect_timeout": _CONNECT_S,
        "read_timeout": _RESPONSE_S,
        "write_timeout": _RESPONSE_S,
        # The server closes the connection of a frozen relay, which releases its locks.
        "init_command": f"SET SESSION wait_timeout = {SILENCE_S}",
    },
    "pysqlite": {"timeout": _RESPONSE_S},
}


@dataclass(frozen=True, slots=True)
class Lag:
    """The number of `waiting` rows and of `failed` ones, which cannot be published.

    `oldest_ms`: when the first waiting row was written, in unix milliseconds; None if no row has a time.
    """

    waiting: int
    oldest_ms: int | None
    failed: int

    def oldest_s(self, now_s: float) -> float:
        """The age of the first waiting row at a unix time, in seconds; 0 if no row has a time."""
        return 0.0 if self.oldest_ms is None else max(0.0, now_s - self.oldest_ms / 1000)


def open_engine(url: str, **options: Any) -> Engine:
    """An engine for a relay. Each statement sees all commits before it. `options`: more ones of `create_engine`.

    It raises BadConfig when it connects, if the driver cannot use an option of the URL.

    Raises:
        BadConfig: not the URL of a supported database. The message does not repeat it: it may hold a password.
        MissingExtra: SQLAlchemy or the driver is not installed.
    """
    sa = sqlalchemy_module()
    try:
        parsed = _with_driver(sa.make_url(url))
        if parsed.get_backend_name() not in _BACKENDS:
            raise BadConfig(_UNSUPPORTED)
        check_url(parsed)
        timeouts = _TIMEOUTS.get(parsed.get_driver_name(), {})
        connect_options = {name: value for name, value in timeouts.items() if name not in parsed.query}
        engine_options: dict[str, Any] = {"pool_recycle": SILENCE_S // 2} | options
        if parsed.get_backend_name() != "sqlite":
            # The connection that was used last is used first: its statements are prepared.
            engine_options = {"isolation_level": "READ COMMITTED", "pool_use_lifo": True} | engine_options
        engine: Engine = sa.create_engine(parsed, connect_args=connect_options, hide_parameters=True, **engine_options)
    except sa.exc.NoSuchModuleError as error:
        raise BadConfig(_UNSUPPORTED) from error
    except (sa.exc.ArgumentError, ValueError) as error:
        raise BadConfig("not a database URL; its form is postgresql://user:password@host/database") from error
    except ModuleNotFoundError as error:
        raise _missing_driver("psycopg[binary]" if error.name == "psycopg" else error.name) from error
    except ImportError as error:
        if _NO_LIBPQ not in str(error):
            raise BadConfig(f"the database's driver is installed, but cannot be imported: {error}") from error
        raise _missing_driver("psycopg[binary]") from error
    report_unusable_options(engine)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _read_any_text)
    return engine


def _read_any_text(connection: Any, _record: object) -> None:
    """Read text that is not UTF-8, which SQLite accepts. The row is rejected; otherwise no row could be read."""
    connection.text_factory = lambda encoded: encoded.decode(errors="surrogateescape")


def _sync_at_checkpoints(connection: Any, _record: object) -> None:
    """Do not wait for the disk when published rows are deleted, for the reason that `PostgresqlLocks` gives.

    Only with a write-ahead log, where that is safe (sqlite.org/pragma.html#pragma_synchronous).
    """
    if connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
        connection.execute("PRAGMA synchronous = NORMAL")


def _missing_driver(package: str | None) -> MissingExtra:
    return MissingExtra(f"this database needs a driver: pip install '{package}'")


def _with_driver(url: URL) -> URL:
    name = url.drivername
    return url.set(drivername=f"{name}+{_DRIVERS[name]}") if name in _DRIVERS else url


class OutboxStore:
    """One outbox in one database.

    Raises:
        BadConfig: an invalid table name, or a database that the outbox does not support.
    """

    def __init__(self, engine: Engine, name: str = NAME, *, publication_max_bytes: int) -> None:
        self.engine = engine
        self.table: Table = own_table(name)
        self._locks: Locks = locks_for(engine, self.table)
        if engine.dialect.name == "sqlite":
            sqlalchemy_module().event.listen(engine, "connect", _sync_at_checkpoints)
        self.shards = self._locks.shards
        self.locks_in_one_step = self._locks.in_one_step
        self._has_driver_statements = has_driver_statements(engine)
        self._statements = OutboxStatements(
            self.table, self._locks.shard_of(self.table), data_max=WHITESPACE_FACTOR * publication_max_bytes
        )

    def create(self) -> None:
        """Create the table unless it exists."""
        self.table.create(self.engine, checkfirst=True)

    def check(self) -> None:
        """Check that the table exists with all its columns.

        Raises:
            BadConfig: the table or a column is missing.
        """
        sa = sqlalchemy_module()
        inspector = sa.inspect(self.engine)
        try:
            columns = {column["name"] for column in inspector.get_columns(self.table.name, schema=self.table.schema)}
        except sa.exc.NoSuchTableError:
            columns = set()
        if not columns:
            table = f"{self.table.fullname}{file_of(self.engine.url)}"
            raise BadConfig(f"there is no table {table}; create it with --create, or in your migrations")
        if missing := {column.name for column in self.table.c} - columns:
            raise BadConfig(f"the table {self.table.fullname} has no column {', '.join(sorted(missing))}")

    def claims(self, without: Collection[str], limit: int) -> list[list[int]]:
        """The shards with waiting rows, in groups to claim together.

        Fewer than `limit` rows are one claim, since a claim costs more than its rows. With more, each shard is a claim
        of its own, so that several relays publish at the same time.
        """
        query = self._statements.waiting_shards(has_without=bool(without))
        values = {"without": list(without), "first_rows": limit}
        # Without a transaction, which would be two more round trips.
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            shards = [int(number) for number in connection.scalars(query, values)]
        if len(shards) == limit:
            return [[number] for number in range(self.shards)]
        return [sorted(set(shards))] if shards else []

    @contextmanager
    def claim(self, *shards: int) -> Iterator[Claim | None]:
        """Exclusive access to those of these shards that no other relay has, in a transaction that ends with the block.

        None: other relays have all of them.
        """
        with self.engine.connect() as connection:
            # Not left to the first statement: a `DriverStatement` does not begin it.
            connection.begin()
            acquired = self._locks.acquire(connection, shards)
            if not acquired:
                yield None
                return
            try:
                yield Claim(self, connection, acquired)
                self.commit(connection)
            finally:
                try:
                    connection.rollback()
                finally:
                    # A lost connection has released the locks already.
                    if not connection.invalidated:
                        self._locks.release(connection, acquired)

    def commit(self, connection: Connection) -> None:
        """Commit a claim's transaction."""
        connection.commit()

    def delete(self, row_nos: Sequence[int]) -> None:
        """Delete rows that are published, without a claim."""
        with self.engine.begin() as connection:
            connection.execute(self._statements.delete, {"row_nos": list(row_nos)})

    def lag(self) -> Lag:
        """The current lag. It reads the whole table."""
        sa = sqlalchemy_module()
        columns = self.table.c
        with self.engine.connect() as connection:
            waiting, oldest_ms = connection.execute(
                sa.select(sa.func.count(), sa.func.min(columns.at_ms)).where(columns.failed.is_(None))
            ).one()
            failed = connection.scalar(sa.select(sa.func.count()).where(columns.failed.is_not(None)))
        return Lag(int(waiting), None if oldest_ms is None else int(oldest_ms), int(failed or 0))

    def waiting_channels(self, limit: int) -> list[tuple[str, Lag, int, int]]:
        """The channels that wait, oldest row first: name, lag, first `row_no`, and that row's highest `attempts`."""
        sa = sqlalchemy_module()
        columns = self.table.c
        first = sa.func.min(columns.row_no)
        query = (
            sa.select(
                columns.channel, sa.func.count(), sa.func.min(columns.at_ms), first, sa.func.max(columns.attempts)
            )
            .where(columns.failed.is_(None))
            .group_by(columns.channel)
            .order_by(first)
            .limit(limit)
        )
        with self.engine.connect() as connection:
            return [
                (channel, Lag(count, since_ms, 0), row_no, tries)
                for channel, count, since_ms, row_no, tries in connection.execute(query)
            ]

    def dead_letters(self, limit: int) -> list[tuple[int, str, str]]:
        """The first rows that cannot be published: `row_no`, channel and reason."""
        sa = sqlalchemy_module()
        columns = self.table.c
        query = sa.select(columns.row_no, columns.channel, columns.failed).where(columns.failed.is_not(None))
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(query.order_by(columns.row_no).limit(limit))]

    def rows(self, connection: Connection, shards: Sequence[int], without: Collection[str], limit: int) -> list[Row]:
        """The first rows of some shards, in order. All rows of one transaction become visible together."""
        if self._has_driver_statements and len(shards) == self.shards and not without:
            return [Row(*row) for row in self._statements.driver_rows().execute(connection, {"first_rows": limit})]
        query = self._statements.rows(of_all_shards=len(shards) == self.shards, has_without=bool(without))
        values = {"shards": list(shards), "without": list(without), "first_rows": limit}
        return [Row(*row) for row in connection.execute(query, values)]

    def record_results(
        self, connection: Connection, published: Sequence[int], rejected: Mapping[int, str], refused: Sequence[int]
    ) -> None:
        """Delete published rows. Store the reason in `failed` of rejected rows. Count the attempts of both others."""
        columns = self.table.c
        if published and self._has_driver_statements:
            self._statements.driver_delete().execute(connection, {"row_nos": list(published)})
        elif published:
            connection.execute(self._statements.delete, {"row_nos": list(published)})
        for row_no, reason in rejected.items():
            statement = self.table.update().where(columns.row_no == row_no)
            connection.execute(statement.values(failed=reason, attempts=columns.attempts + 1))
        if refused:
            connection.execute(self._statements.count_attempt, {"row_nos": list(refused)})


@dataclass(frozen=True, slots=True)
class Claim:
    """Some claimed shards."""

    store: OutboxStore
    connection: Connection
    shards: Sequence[int]

    def rows(self, without: Collection[str], limit: int) -> list[Row]:
        """See `OutboxStore.rows`."""
        return self.store.rows(self.connection, self.shards, without, limit)

    def record_results(self, published: Sequence[int], rejected: Mapping[int, str], refused: Sequence[int]) -> None:
        """See `OutboxStore.record_results`."""
        self.store.record_results(self.connection, published, rejected, refused)
