"""`Deliveries`: what is due to be pushed, or to be sent to a webhook. Each method is one transaction."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tidings.backoff import delay_s
from tidings_notifications.core.delivery import DueDelivery, Failed, Gone, Outcome, Retry, Sent
from tidings_notifications.core.delivery_plan import ClaimPlan, end_ms, inherited_ms, new_rows
from tidings_notifications.core.notification import WEB_PUSH, Category, StoredNotification
from tidings_notifications.store import delivery_rows, inbox_rows, notification_rows, subscription_rows
from tidings_notifications.store.database import Connection, Database

_RETRY_BASE_S: Final = 10.0
_RETRY_CAP_S: Final = 3600.0


@dataclass(slots=True)
class FinishCounts:
    """What came of some deliveries. `expired`: their notification would end before the next attempt."""

    sent: int = 0
    gone: int = 0
    postponed: int = 0
    failed: int = 0
    expired: int = 0


class Deliveries:
    """The deliveries of all users by one method. Threads may share it, and several processes may have one each.

    `categories`: the rules by name; it may be replaced. `lease_s`: after so long without a result, any process takes a
    claimed delivery over.

    All methods raise what `Database.write` or `Database.read` raises: BadConfig, Unavailable, TimedOut.
    """

    def __init__(self, database: Database, categories: Mapping[str, Category], *, method: str, lease_s: float) -> None:
        self.categories = categories
        self._database = database
        self.method = method
        self._lease_ms = int(lease_s * 1000)

    def oldest_due_ms(self) -> int | None:
        """When the first delivery is due; None: there is none."""
        return self._database.read(lambda connection: delivery_rows.oldest_due_ms(connection, self.method))

    def claim(self, now_ms: int, limit: int) -> tuple[list[DueDelivery], int]:
        """Take deliveries that are due, of at most `limit` rows. Also returns how many were withdrawn.

        One row for all pushes of a notification becomes one row for each subscription of its user.
        """
        return self._database.write(lambda connection: self._claim(connection, now_ms, limit))

    def finish(self, results: Sequence[tuple[DueDelivery, Outcome]], now_ms: int) -> FinishCounts:
        """Note what came of deliveries. What another process has taken over in the meantime remains as it is."""
        return self._database.write(lambda connection: _finish(connection, results, now_ms))

    def _claim(self, connection: Connection, now_ms: int, limit: int) -> tuple[list[DueDelivery], int]:
        rows = delivery_rows.lock_due(connection, self.method, now_ms, limit)
        if not rows:
            return [], 0
        notifications = {
            row.id: row for row in notification_rows.rows_of(connection, [row.notification_id for row in rows])
        }
        users = {notification.user_id for notification in notifications.values()}
        plan = ClaimPlan(
            categories=dict(self.categories),
            notifications=notifications,
            subscriptions=subscription_rows.of_users(connection, users, now_ms),
            counts=inbox_rows.counts_of_users(connection, users),
            switched_off=inbox_rows.deliveries_off(connection, users),
            claim=str(uuid.uuid4()),
            now_ms=now_ms,
        )
        for row in rows:
            notification = notifications.get(row.notification_id)
            own = () if notification is None else plan.subscriptions.get(notification.user_id, ())
            plan.add(row, [str(uuid.uuid4()) for _ in own])
        until_ms = now_ms + self._lease_ms
        delivery_rows.delete(connection, plan.deleted)
        delivery_rows.claim(connection, [due.id for due in plan.claimed], plan.claim, until_ms)
        delivery_rows.insert_claimed(connection, plan.expanded, until_ms)
        return plan.claimed + plan.expanded, plan.withdrawn


def write_new(
    connection: Connection,
    notifications: Sequence[StoredNotification],
    categories: Mapping[str, Category],
    now_ms: int,
    *,
    replaced: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Write the deliveries of notifications that are new in inboxes. `replaced`: the ids that each one replaces."""
    delivered = [row for row in notifications if row.category in categories and categories[row.category].deliveries]
    if not delivered:
        return
    pushed_users = {row.user_id for row in delivered if WEB_PUSH in categories[row.category].deliveries}
    earlier = {row.id: replaced[row.id] for row in delivered if replaced and replaced.get(row.id)}
    waiting_ms = delivery_rows.waiting_ms(connection, [id_ for ids in earlier.values() for id_ in ids])
    methods = sum(len(categories[row.category].deliveries) for row in delivered)
    rows = new_rows(
        delivered,
        categories,
        subscribed=subscription_rows.subscribed(connection, pushed_users) if pushed_users else (),
        inherited_ms=inherited_ms(earlier, waiting_ms),
        ids=[str(uuid.uuid4()) for _ in range(methods)],
        now_ms=now_ms,
    )
    delivery_rows.insert(connection, rows)


def _finish(connection: Connection, results: Sequence[tuple[DueDelivery, Outcome]], now_ms: int) -> FinishCounts:
    counts = FinishCounts()
    ended: list[DueDelivery] = []
    used: set[str] = set()
    postponed: list[tuple[DueDelivery, int, str]] = []
    for due, outcome in results:
        match outcome:
            case Sent():
                counts.sent += 1
                if due.subscription is not None:
                    used.add(due.subscription.id)
            case Gone():
                counts.gone += 1
                if due.subscription is not None:
                    # Only this endpoint: its browser may have renewed the subscription in the meantime.
                    subscription_rows.delete_endpoint(connection, due.subscription)
            case Failed():
                counts.failed += 1
            case Retry(after_ms, reason):
                at_ms = now_ms + _pause_ms(due, after_ms)
                if at_ms < end_ms(due.notification):
                    counts.postponed += 1
                    postponed.append((due, at_ms, reason))
                    continue
                counts.expired += 1
        ended.append(due)
    if used:
        subscription_rows.note_use(connection, used, now_ms)
    delivery_rows.delete_claimed(connection, ended)
    delivery_rows.postpone(connection, postponed)
    return counts


def _pause_ms(due: DueDelivery, after_ms: int | None) -> int:
    """The time that the other side asks for, and full jitter, so that not all are repeated together."""
    jitter_s = delay_s(due.attempt - 1, base_s=_RETRY_BASE_S, cap_s=_RETRY_CAP_S)
    return (after_ms or 0) + int(jitter_s * 1000)
