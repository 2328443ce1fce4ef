"""The version of the tables: migrate, and check before use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from tidings.errors import BadConfig, Unavailable
from tidings_notifications.store.database import Connection, Database
from tidings_notifications.store.failures import database_errors

# Not Alembic's default name: an application may have migrations of its own in the same database.
VERSION_TABLE = "tidings_notification_version"
_MIGRATE = "run: tidings notifications --migrate"
# A number of our own, for the lock of migrations.
_LOCK_NO = 7_163_402_911
_LOCK_WAIT_S = 60


def migrate(database: Database) -> None:
    """Bring the tables to the current version. Of several processes one migrates, and the others wait.

    Raises:
        BadConfig: the tables are of a newer version. Unavailable: the database failed, or another migration takes long.
    """
    with database_errors(), _migration_lock(database) as connection:
        if _is_newer(connection):
            raise _newer_error(connection)
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def check_version(database: Database) -> None:
    """Check that the tables are of the current version.

    Raises:
        BadConfig: they do not exist, or are of another version. Unavailable: the database failed.
    """

    def check(connection: Connection) -> None:
        if _is_newer(connection):
            raise _newer_error(connection)
        version = _version(connection)
        if version is None:
            raise BadConfig(f"the database has no tables for notifications; {_MIGRATE}")
        if version != _scripts().get_current_head():
            raise BadConfig(f"the tables for notifications are of the older version {version}; {_MIGRATE}")

    database.read(check)


def prepare(database: Database) -> None:
    """Create the tables in an empty SQLite file, then check the version, as `check_version`."""
    if database.is_sqlite and database.read(_version) is None:
        migrate(database)
    check_version(database)


def _version(connection: Connection) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def _is_newer(connection: Connection) -> bool:
    version = _version(connection)
    return version is not None and version not in {script.revision for script in _scripts().walk_revisions()}


def _newer_error(connection: Connection) -> BadConfig:
    return BadConfig(
        f"the tables for notifications are of version {_version(connection)}, which this version of tidings "
        "does not know; install the newer version of tidings"
    )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


@contextmanager
def _migration_lock(database: Database) -> Iterator[Connection]:
    """A transaction in which no other process migrates."""
    with ExitStack() as stack:
        if database.engine.dialect.name in ("mysql", "mariadb"):
            # On a connection of its own, which keeps the lock until the transaction is committed.
            stack.enter_context(_mysql_lock(database))
        connection = stack.enter_context(database.writing())
        if connection.dialect.name == "postgresql":
            # Another migration may take long.
            connection.execute(sa.text("SET LOCAL lock_timeout = 0"))
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK_NO)))
        yield connection


@contextmanager
def _mysql_lock(database: Database) -> Iterator[None]:
    with database.engine.connect() as connection:
        if not connection.scalar(sa.select(sa.func.get_lock(VERSION_TABLE, _LOCK_WAIT_S))):
            raise Unavailable(f"another migration takes longer than {_LOCK_WAIT_S} s; try again")
        try:
            yield
        finally:
            if not connection.invalidated:
                connection.scalar(sa.select(sa.func.release_lock(VERSION_TABLE)))
