"""One migrated database of each kind for the tests of a file, without rows at the beginning of each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from support.inbox import CATEGORIES, InboxBench, empty_database, open_bench
from support.processes.database import KINDS, Database
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
