"""Statements on deliveries."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import sqlalchemy as sa

from tidings_notifications.core.delivery import DueDelivery
from tidings_notifications.core.delivery_plan import DeliveryRow
from tidings_notifications.store.bulk import insert_rows, is_one_of
from tidings_notifications.store.notification_rows import parts
from tidings_notifications.store.tables import delivery_table

_columns = delivery_table.c
NAMES = ("id", "notification_id", "method", "subscription_id", "due_ms", "attempts")
_ROW = sa.select(*(_columns[name] for name in NAMES))
# Deliveries that were not tried yet, and whose subscriptions are not chosen.
IS_WAITING = _columns.subscription_id.is_(None) & (_columns.attempts == 0)
ERROR_MAX = 200


def insert(connection: sa.Connection, rows: Sequence[DeliveryRow]) -> None:
    """Insert rows."""
    insert_rows(connection, delivery_table, values_of(rows))


def values_of(rows: Sequence[DeliveryRow]) -> list[dict[str, object]]:
    """The columns of rows by name."""
    return [{name: getattr(row, name) for name in NAMES} for row in rows]


def insert_claimed(connection: sa.Connection, deliveries: Sequence[DueDelivery], until_ms: int) -> None:
    """Insert the rows of deliveries that this process tries now."""
    if deliveries:
        values = [
            {
                "id": due.id,
                "notification_id": due.notification.id,
                "method": due.method,
                "subscription_id": None if due.subscription is None else due.subscription.id,
                "due_ms": until_ms,
                "attempts": due.attempt,
                "claim": due.claim,
            }
            for due in deliveries
        ]
        connection.execute(delivery_table.insert(), values)


def waiting_ms(connection: sa.Connection, notifications: Collection[str]) -> dict[str, int]:
    """When the deliveries of these notifications are due whose subscriptions are not chosen."""
    pairs: list[tuple[str, int]] = []
    for part in parts(notifications):
        is_theirs = is_one_of(connection, _columns.notification_id, part)
        query = sa.select(_columns.notification_id, _columns.due_ms).where(is_theirs, IS_WAITING)
        pairs += [(row.notification_id, row.due_ms) for row in connection.execute(query)]
    return earliest_due_ms(pairs)


def earliest_due_ms(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Of pairs of notification and due time, the earliest time of each notification."""
    earliest: dict[str, int] = {}
    for id_, due_ms in pairs:
        earliest[id_] = min(due_ms, earliest.get(id_, due_ms))
    return earliest


def oldest_due_ms(connection: sa.Connection, method: str) -> int | None:
    """When the first delivery of a method is due; None: there is none."""
    due_ms = connection.scalar(
        sa.select(_columns.due_ms).where(_columns.method == method).order_by(_columns.due_ms).limit(1)
    )
    return None if due_ms is None else int(due_ms)


def lock_due(connection: sa.Connection, method: str, now_ms: int, limit: int) -> list[DeliveryRow]:
    """Lock rows of a method that are due, the most overdue first. Rows that another process has locked are left out."""
    query = _ROW.where(_columns.method == method, _columns.due_ms <= now_ms).order_by(_columns.due_ms).limit(limit)
    return [DeliveryRow(*row) for row in connection.execute(query.with_for_update(skip_locked=True))]


def claim(connection: sa.Connection, ids: Iterable[str], claim_id: str, until_ms: int) -> None:
    """Note on locked rows that this process tries them, until a time."""
    changes = {"claim": claim_id, "due_ms": until_ms, "attempts": _columns.attempts + 1}
    for part in parts(ids):
        connection.execute(delivery_table.update().where(is_one_of(connection, _columns.id, part)).values(changes))


def delete(connection: sa.Connection, ids: Iterable[str]) -> None:
    """Delete rows."""
    for part in parts(ids):
        connection.execute(delivery_table.delete().where(is_one_of(connection, _columns.id, part)))


def delete_claimed(connection: sa.Connection, deliveries: Iterable[DueDelivery]) -> None:
    """Delete the rows of deliveries, unless another process has taken them over."""
    by_claim: dict[str, list[str]] = {}
    for due in deliveries:
        by_claim.setdefault(due.claim, []).append(due.id)
    for claim_id, ids in by_claim.items():
        for part in parts(ids):
            connection.execute(
                delivery_table.delete().where(is_one_of(connection, _columns.id, part), _columns.claim == claim_id)
            )


def postpone(connection: sa.Connection, postponed: Sequence[tuple[DueDelivery, int, str]]) -> None:
    """Let deliveries be tried again at a time, for a reason, unless another process has taken them over."""
    if not postponed:
        return
    statement = (
        delivery_table.update()
        .where(_columns.id == sa.bindparam("of_id"), _columns.claim == sa.bindparam("of_claim"))
        .values(due_ms=sa.bindparam("at_ms"), last_error=sa.bindparam("reason"), claim=None)
    )
    values = [
        {"of_id": due.id, "of_claim": due.claim, "at_ms": at_ms, "reason": reason[:ERROR_MAX]}
        for due, at_ms, reason in postponed
    ]
    connection.execute(statement, values)
