"""What the writer of the service remembers of batches that the database did not store."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest
import sqlalchemy as sa

from support.inbox import CATEGORIES, START_MS, empty_database, open_bench
from support.processes.database import Database
from tidings.errors import TidingsError
from tidings.wire.notification import Notification
from tidings_notifications.inbox import Inbox
from tidings_notifications.metrics import ServiceMetrics
from tidings_notifications.writer import FAILURES_MAX, REMEMBERED_S, NotificationWriter

HIDE = "ALTER TABLE tidings_notification RENAME TO hidden"
SHOW = "ALTER TABLE hidden RENAME TO tidings_notification"


def test_failures_in_a_row_are_an_error_until_a_batch_is_stored_or_time_has_passed(
    database_of: Callable[[str], Database],
) -> None:
    now_s = 1_000.0
    with closing(open_bench(empty_database(database_of("sqlite"))).database) as database:
        writer = NotificationWriter(Inbox(database, CATEGORIES), ServiceMetrics(), monotonic_s=lambda: now_s)

        def store(id_: str) -> None:
            writer.store([Notification("order", "7", "T", id_, START_MS)])

        def change(statement: str) -> None:
            with database.engine.begin() as connection:
                connection.execute(sa.text(statement))

        def fail() -> None:
            with pytest.raises(TidingsError):
                store("lost")

        store("first")
        change(HIDE)
        for _ in range(FAILURES_MAX):
            assert not writer.store_error()
            fail()
        assert "tidings_notification" in writer.store_error()
        now_s += REMEMBERED_S + 1
        assert not writer.store_error()
        fail()
        assert writer.store_error()
        change(SHOW)
        store("second")
        assert not writer.store_error()
        change(HIDE)
        fail()
        assert not writer.store_error()
