"""Small batches on PostgreSQL, which have no locks between their two statements, while others change the inboxes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from support.inbox import InboxBench, notification
from support.processes.database import Database
from support.statements import observed_statements
from tidings.errors import TimedOut
from tidings_notifications.core.notification import Stored

# The other databases lock the inboxes first.
only_postgresql = pytest.mark.parametrize("filled", ["postgresql"], indirect=True)


@contextmanager
def _before_the_write(bench: InboxBench, change: Callable[[], object]) -> Iterator[list[int]]:
    """Run `change` once, on another connection, after the batch has read and before it writes. Yields its calls."""
    calls: list[int] = []

    def on_statement(statement: str, _count: int) -> None:
        if statement.startswith("WITH locked AS") and not calls:
            calls.append(1)
            change()

    with observed_statements(bench.database.engine, before=on_statement):
        yield calls


@only_postgresql
def test_marks_between_read_and_write_are_kept(bench: InboxBench) -> None:
    bench.store(notification("first"))
    with _before_the_write(bench, lambda: bench.inbox.mark_all("7", "read", bench.now_ms)) as calls:
        assert isinstance(bench.store(notification("second"))[0], Stored)
    assert calls
    page = bench.page()
    assert [(item["title"], item["read_at"] is None) for item in page.items] == [("second", True), ("first", False)]
    bench.check()


@only_postgresql
def test_same_id_between_read_and_write_is_stored_once(bench: InboxBench) -> None:
    bench.store(notification())
    same = notification("same", caller_id="one")
    with _before_the_write(bench, lambda: bench.store(same)) as calls:
        [result] = bench.store(same)
    assert calls
    assert isinstance(result, Stored)
    assert result.duplicate
    assert bench.titles().count("same") == 1
    bench.check()


@only_postgresql
def test_notification_of_the_same_group_between_read_and_write_is_replaced(bench: InboxBench) -> None:
    bench.store(notification("old", group="g"))
    with _before_the_write(bench, lambda: bench.store(notification("between", group="g"))) as calls:
        bench.store(notification("new", group="g"))
    assert calls
    assert bench.titles() == ["new"]
    bench.check()


@only_postgresql
def test_one_changed_inbox_holds_the_whole_batch_up_but_loses_nothing(bench: InboxBench) -> None:
    users = ["a", "b", "c"]
    bench.store(*(notification("old", user=user) for user in users))
    with _before_the_write(bench, lambda: bench.store(notification("between", user="b"))) as calls:
        bench.store(*(notification("new", user=user) for user in users))
    assert calls
    assert [bench.titles(user) for user in users] == [["new", "old"], ["new", "between", "old"], ["new", "old"]]
    bench.check()


def test_connection_that_breaks_at_the_write_has_an_unknown_result_and_the_repetition_is_a_duplicate_or_new(
    own_server: Database, own_bench: InboxBench
) -> None:
    own_bench.store(notification("before"))
    new = notification("new")
    with _before_the_write(own_bench, own_server.kill), pytest.raises(TimedOut, match="same ids"):
        own_bench.store(new)
    own_server.start()
    assert isinstance(own_bench.store(new)[0], Stored)
    assert own_bench.titles() == ["new", "before"]
    own_bench.check()


def test_idle_connections_that_the_database_has_closed_are_replaced(
    own_server: Database, own_bench: InboxBench
) -> None:
    """No ping before each use, which would be one more round trip."""
    own_bench.store(notification("before"))
    own_server.kill()
    own_server.start()
    assert own_bench.titles() == ["before"]
    own_server.kill()
    own_server.start()
    own_bench.inbox.mark_all("7", "read", own_bench.now_ms)
    own_server.kill()
    own_server.start()
    own_bench.store(notification("after"))
    assert own_bench.titles() == ["after", "before"]
    own_bench.check()
