"""How many statements a batch costs: one of each kind, however many notifications it has."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from support.inbox import InboxBench, empty_database, notification, open_bench
from support.processes.database import Database
from support.statements import observed_statements
from tidings_notifications.core.notification import NewNotification
from tidings_notifications.inbox.storing_unlocked import BATCH_MAX


def test_large_batch_costs_postgresql_as_many_statements_as_a_small_one(bench: InboxBench) -> None:
    counts = []
    for size in (BATCH_MAX + 1, 300):
        batch = [notification(user=str(number), group="g") for number in range(size)]
        # The users have inboxes, and the groups have notifications to replace.
        bench.store(*batch)
        batch = [notification(user=str(number), group="g") for number in range(size)]
        counts.append(_statements(bench, batch))
    if bench.database.engine.dialect.name == "postgresql":
        assert counts[0] == counts[1] == dict.fromkeys(counts[0], 1) | {"SELECT": 4}
    else:
        assert counts[0].keys() == counts[1].keys()
    bench.check()


def test_small_batch_costs_postgresql_one_or_two_statements_without_a_transaction(bench: InboxBench) -> None:
    for batch, reads in (
        ([notification()], {}),
        ([notification(user="8", group="g"), notification(user="8")], {"SELECT": 1}),
        ([notification(), notification(user="8"), notification(category="alert")], {}),
    ):
        # The first of them makes the inboxes.
        bench.store(*(notification(user=new.user) for new in batch))
        counts = _statements(bench, batch)
        if bench.database.is_postgresql:
            assert counts == reads | {"WITH locked AS": 1}
        bench.check()


def _statements(bench: InboxBench, batch: list[NewNotification]) -> dict[str, int]:
    """How often each kind of statement runs, by its first words. One with many sets of values counts once for each."""
    counts: dict[str, int] = {}

    def count(statement: str, executions: int) -> None:
        words = statement.split()
        name = "SELECT" if words[0] == "SELECT" else " ".join(words[:3])
        counts[name] = counts.get(name, 0) + executions

    with observed_statements(bench.database.engine, before=count):
        bench.store(*batch)
    return counts


def test_plans_of_small_batches_find_rows_by_index_also_if_the_tables_were_empty_at_the_first_one(
    database_of: Callable[[str], Database],
) -> None:
    """PostgreSQL keeps such a plan until it analyzes the tables. To read all rows costs more with each batch."""
    bench = open_bench(empty_database(database_of("postgresql")))
    try:
        for number in range(20):
            # The second user's counts are not known.
            bench.store(notification(), notification(user=str(number)))
        with bench.database.without_transaction() as connection:
            prepared = connection.execute(
                sa.text("SELECT name, CAST(cardinality(parameter_types) AS INTEGER) FROM pg_prepared_statements")
            ).all()
            plans = [
                "\n".join(connection.scalars(sa.text(f"EXPLAIN EXECUTE {name}({', '.join(['NULL'] * count)})")))
                for name, count in prepared
                if count > 1
            ]
        assert len(plans) == 2, "the read and the write"
        assert [plan for plan in plans if "Seq Scan" in plan or "Hash" in plan] == []
        for index in ("tidings_notification_once", "tidings_notification_collapse"):
            assert any(index in plan for plan in plans), plans
    finally:
        bench.database.close()
