"""Store a batch of notifications."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tidings_notifications.core.batch import BatchPlan, keys_of
from tidings_notifications.core.notification import IN_APP, Category, NewNotification, Place, Stored
from tidings_notifications.inbox.deliveries import write_new
from tidings_notifications.inbox.transactions import Inboxes
from tidings_notifications.store import inbox_rows, notification_rows
from tidings_notifications.store.database import Connection


@dataclass(frozen=True, slots=True)
class BatchRules:
    """What a batch is stored by. `next_id`: see `IdSequence.next`."""

    categories: Mapping[str, Category]
    next_id: Callable[[int], tuple[str, int]]
    event_max_bytes: int


def store_batch(
    connection: Connection, inboxes: Inboxes, batch: Sequence[NewNotification], rules: BatchRules, now_ms: int
) -> tuple[list[Stored], bool]:
    """Store notifications of known categories, in order. Returns their results, and whether there are events."""
    keys = keys_of(batch, rules.categories)
    plan = BatchPlan(
        categories=rules.categories,
        inboxes=inboxes,
        stored_keys=notification_rows.stored_keys(connection, keys.idempotency),
        collapsible=notification_rows.collapsible(connection, keys.collapse),
        switched_off=_switched_off(connection, batch, rules.categories),
        next_id=rules.next_id,
        now_ms=now_ms,
        event_max_bytes=rules.event_max_bytes,
    )
    results = [plan.add(new) for new in batch]
    notification_rows.release_keys(connection, plan.released)
    notification_rows.delete(connection, plan.deleted, now_ms)
    notification_rows.insert(connection, plan.inserted)
    in_inbox = [row for row in plan.inserted if row.place == Place.INBOX]
    write_new(connection, in_inbox, rules.categories, now_ms, replaced=plan.replaced)
    inbox_rows.write_events(connection, plan.events, now_ms)
    inbox_rows.write_counts(connection, [inboxes[user] for user in sorted(plan.changed_users)])
    return results, bool(plan.events)


def _switched_off(
    connection: Connection, batch: Sequence[NewNotification], categories: Mapping[str, Category]
) -> set[tuple[str, str]]:
    users = {new.user for new in batch if not categories[new.category].required}
    return inbox_rows.switched_off(connection, users, IN_APP) if users else set()
