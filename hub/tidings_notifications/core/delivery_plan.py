"""Decides about rows of deliveries: which ones a notification gets, what is due, and when a failed one is next."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from tidings_notifications.core.counts import InboxCounts
from tidings_notifications.core.delivery import DueDelivery
from tidings_notifications.core.notification import (
    WEB_PUSH,
    WEBHOOK,
    Category,
    Place,
    PushRule,
    StoredNotification,
)
from tidings_notifications.core.push_message import TTL_MAX_S
from tidings_notifications.core.push_subscription import StoredSubscription


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """One row of the table. `subscription_id`: None for a webhook, and for pushes whose subscriptions are not chosen.

    `due_ms`: when it is tried next, or when the claim of a process ends. `attempts`: how often it was tried.
    """

    id: str
    notification_id: str
    method: str
    subscription_id: str | None
    due_ms: int
    attempts: int = 0


def new_rows(
    notifications: Sequence[StoredNotification],
    categories: Mapping[str, Category],
    *,
    subscribed: Collection[str],
    inherited_ms: Mapping[str, int],
    ids: Sequence[str],
    now_ms: int,
) -> list[DeliveryRow]:
    """The deliveries of new notifications in inboxes, one for each method.

    `subscribed`: users who have push subscriptions. `inherited_ms`: when the deliveries of what a notification replaces
    were due, so that replacements one after another do not postpone a push for ever. `ids`: enough new ids.
    """
    next_id = iter(ids)
    rows: list[DeliveryRow] = []
    for notification in notifications:
        category = categories[notification.category]
        for method in category.deliveries:
            if method == WEB_PUSH and notification.user_id not in subscribed:
                continue
            due_ms = category.due_ms(method, now_ms)
            due_ms = min(due_ms, inherited_ms.get(notification.id, due_ms))
            rows.append(DeliveryRow(next(next_id), notification.id, method, None, due_ms))
    return rows


def inherited_ms(replaced: Mapping[str, Sequence[str]], waiting_ms: Mapping[str, int]) -> dict[str, int]:
    """When the deliveries are due that a notification takes over. `replaced`: the ids that each one replaces.

    `waiting_ms`: when the deliveries of these are due, by notification.
    """
    return {
        id_: min(waiting_ms[old_id] for old_id in old_ids if old_id in waiting_ms)
        for id_, old_ids in replaced.items()
        if any(old_id in waiting_ms for old_id in old_ids)
    }


def is_withdrawn(notification: StoredNotification, method: str, category: Category, now_ms: int) -> bool:
    """Whether a notification is not delivered any more. What was seen is still pushed if its category always pushes."""
    if notification.place != Place.INBOX or notification.read_ms is not None or now_ms >= end_ms(notification):
        return True
    is_always = method == WEB_PUSH and category.web_push is PushRule.ALWAYS
    return method not in category.deliveries or (notification.seen_ms is not None and not is_always)


def end_ms(notification: StoredNotification) -> int:
    """Until when deliveries of a notification are tried: until it expires, at most as long as push services keep it."""
    longest_ms = notification.created_ms + TTL_MAX_S * 1000
    return longest_ms if notification.expires_ms is None else min(notification.expires_ms, longest_ms)


@dataclass(slots=True)
class ClaimPlan:
    """Decides what becomes of locked rows. The caller then writes what the fields hold.

    `subscriptions`: of each user those that have not expired. `switched_off`: user, category and method. `claim`: the
    id of this claim.
    """

    categories: Mapping[str, Category]
    notifications: Mapping[str, StoredNotification]
    subscriptions: Mapping[str, Sequence[StoredSubscription]]
    counts: Mapping[str, InboxCounts]
    switched_off: Collection[tuple[str, str, str]]
    claim: str
    now_ms: int
    # Deliveries to try: of rows that remain, and of rows to insert.
    claimed: list[DueDelivery] = field(default_factory=list)
    expanded: list[DueDelivery] = field(default_factory=list)
    # Ids of rows to delete.
    deleted: list[str] = field(default_factory=list)
    # Of these, how many are not delivered any more.
    withdrawn: int = 0

    def add(self, row: DeliveryRow, ids: Sequence[str]) -> None:
        """Decide one row. `ids`: a new id for each subscription of the user."""
        notification = self.notifications.get(row.notification_id)
        category = None if notification is None else self.categories.get(notification.category)
        if notification is None or category is None or not self._is_wanted(notification, category, row.method):
            self._withdraw(row)
        elif row.method == WEBHOOK:
            self.claimed.append(self._due(row.id, row, notification, category, None))
        elif row.subscription_id is None:
            self._expand(row, notification, category, ids)
        else:
            own = self.subscriptions.get(notification.user_id, ())
            subscription = next((alive for alive in own if alive.id == row.subscription_id), None)
            if subscription is None:
                self._withdraw(row)
            else:
                self.claimed.append(self._due(row.id, row, notification, category, subscription))

    def _is_wanted(self, notification: StoredNotification, category: Category, method: str) -> bool:
        is_off = (notification.user_id, notification.category, method) in self.switched_off
        return not is_withdrawn(notification, method, category, self.now_ms) and (category.required or not is_off)

    def _expand(
        self, row: DeliveryRow, notification: StoredNotification, category: Category, ids: Sequence[str]
    ) -> None:
        own = self.subscriptions.get(notification.user_id, ())
        if not own:
            self._withdraw(row)
            return
        self.deleted.append(row.id)
        self.expanded += [
            self._due(id_, row, notification, category, subscription)
            for id_, subscription in zip(ids, own, strict=True)
        ]

    def _withdraw(self, row: DeliveryRow) -> None:
        self.deleted.append(row.id)
        self.withdrawn += 1

    def _due(
        self,
        id_: str,
        row: DeliveryRow,
        notification: StoredNotification,
        category: Category,
        subscription: StoredSubscription | None,
    ) -> DueDelivery:
        counts = self.counts.get(notification.user_id) or InboxCounts(notification.user_id)
        return DueDelivery(id_, self.claim, row.method, notification, category, counts, subscription, row.attempts + 1)
