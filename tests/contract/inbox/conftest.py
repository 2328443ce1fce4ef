"""One migrated database of each kind for the tests of a file, without rows at the beginning of each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from support.inbox import CATEGORIES, InboxBench, empty_database, open_bench
from support.processes.database import KINDS, Database, start_database
from tidings_notifications.inbox import Inbox


@pytest.fixture(scope="module", params=KINDS)
def filled(request: pytest.FixtureRequest, database_of: Callable[[str], Database]) -> Iterator[InboxBench]:
    bench = open_bench(empty_database(database_of(request.param)))
    yield bench
    bench.database.close()


@pytest.fixture
def bench(filled: InboxBench) -> InboxBench:
    filled.clear()
    return InboxBench(filled.database, Inbox(filled.database, CATEGORIES))


@pytest.fixture
def own_server() -> Iterator[Database]:
    """A PostgreSQL that a test may kill and start again."""
    server = start_database("postgresql")
    yield server
    server.stop()


@pytest.fixture
def own_bench(own_server: Database) -> Iterator[InboxBench]:
    bench = open_bench(empty_database(own_server))
    yield bench
    bench.database.close()
