"""The tables on every database: migrations, versions, and what the statements cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from support.inbox import CATEGORIES, START_MS, InboxBench, empty_database, notification, open_bench
from support.processes.database import KINDS, Database
from tidings.errors import BadConfig
from tidings_notifications.inbox import Inbox
from tidings_notifications.store import schema
from tidings_notifications.store.database import Database as InboxDatabase
from tidings_notifications.store.tables import METADATA


@pytest.fixture(params=KINDS)
def empty(request: pytest.FixtureRequest, database_of: Callable[[str], Database]) -> Iterator[InboxDatabase]:
    database = InboxDatabase(empty_database(database_of(request.param)))
    yield database
    database.close()


def test_migrations_make_the_tables_that_the_code_uses(empty: InboxDatabase) -> None:
    with pytest.raises(BadConfig, match=r"no tables.*--migrate"):
        schema.check_version(empty)
    schema.migrate(empty)
    schema.check_version(empty)
    schema.migrate(empty)
    with empty.engine.connect() as connection:
        options = {"compare_type": True, "version_table": schema.VERSION_TABLE}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), METADATA) == []


def test_processes_that_migrate_at_the_same_time_wait_for_each_other(empty: InboxDatabase) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: schema.migrate(empty), range(4)))
    schema.check_version(empty)


def test_interrupted_migration_is_continued(empty: InboxDatabase) -> None:
    """MySQL commits each table at once."""
    METADATA.tables["tidings_inbox"].create(empty.engine)
    table = METADATA.tables["tidings_notification"].to_metadata(sa.MetaData())
    for index in list(table.indexes)[1:]:
        table.indexes.remove(index)
    table.create(empty.engine)
    schema.migrate(empty)
    with empty.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": schema.VERSION_TABLE})
        assert compare_metadata(context, METADATA) == []


@pytest.mark.parametrize("operation", [schema.migrate, schema.check_version, schema.prepare])
def test_database_of_a_newer_version_is_refused(
    empty: InboxDatabase, operation: Callable[[InboxDatabase], None]
) -> None:
    schema.migrate(empty)
    with empty.engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(BadConfig, match=r"9999.*newer version of tidings"):
        operation(empty)


def test_only_sqlite_makes_its_tables_by_itself(empty: InboxDatabase) -> None:
    if empty.is_sqlite:
        schema.prepare(empty)
        schema.prepare(empty)
    else:
        with pytest.raises(BadConfig, match="--migrate"):
            schema.prepare(empty)


def test_missing_tables_are_a_bad_config(empty: InboxDatabase) -> None:
    with pytest.raises(BadConfig, match="--migrate"):
        Inbox(empty, CATEGORIES).store([notification()], START_MS)


def test_tables_of_an_application_stay_as_they_are(empty: InboxDatabase) -> None:
    """An application may keep its own migrations and its own outbox in the same database."""
    with empty.engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        connection.execute(sa.text("INSERT INTO alembic_version VALUES ('theirs')"))
        connection.execute(sa.text("CREATE TABLE tidings_outbox (row_no INTEGER)"))
    schema.migrate(empty)
    with empty.engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == "theirs"
        assert sa.inspect(connection).get_columns("tidings_outbox")[0]["name"] == "row_no"


@pytest.fixture
def large(database_of: Callable[[str], Database]) -> Iterator[InboxBench]:
    """A PostgreSQL database whose tables are so large that it uses indexes."""
    bench = open_bench(empty_database(database_of("postgresql")))
    for batch in range(6):
        users = [f"u{number}" for number in range(50)]
        bench.store(*(notification(user=user, group=f"g{batch}-{number}") for user in users for number in range(20)))
    with bench.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM ANALYZE"))
    yield bench
    bench.database.close()


@contextmanager
def explained(bench: InboxBench) -> Iterator[list[str]]:
    """The plans of the queries on notifications in the block."""
    plans: list[str] = []

    def explain(connection: sa.Connection, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        if statement.startswith("SELECT") and "tidings_notification" in statement:
            plan = connection.connection.cursor().execute(f"EXPLAIN {statement}", parameters).fetchall()
            plans.append("\n".join(line for (line,) in plan))

    sa.event.listen(bench.database.engine, "before_cursor_execute", explain)
    try:
        yield plans
    finally:
        sa.event.remove(bench.database.engine, "before_cursor_execute", explain)


def test_each_query_reads_only_its_rows(large: InboxBench) -> None:
    with explained(large) as unread:
        large.page("u7", unread=True)
    # In the index, so what was read costs no visit of its row.
    assert any(
        line.strip().startswith("Index Cond") and "read_ms IS NULL" in line for line in unread[0].splitlines()
    ), unread
    with explained(large) as plans:
        large.page("u7", before=large.page("u7").next)
    assert len(plans) == 2
    assert all("tidings_notification_page" in plan for plan in plans), plans
    with explained(large) as swept:
        large.inbox.sweep(large.now_ms)
    assert any("tidings_notification_sweep" in plan for plan in swept), swept
    assert any("tidings_notification_pkey" in plan for plan in swept), swept
    for plan in (*plans, *swept):
        assert "Seq Scan on tidings_notification" not in plan
