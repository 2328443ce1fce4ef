"""How many statements a batch costs: one of each kind, however many notifications it has."""

from __future__ import annotations

from support.inbox import InboxBench, notification
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
