"""Store a small batch without locks, in two round trips to PostgreSQL: what makes a bell ring at once."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Final

from tidings_notifications.core.batch import BatchPlan, keys_of
from tidings_notifications.core.delivery_plan import inherited_ms, new_rows
from tidings_notifications.core.notification import NewNotification, Place, Stored
from tidings_notifications.inbox.storing import BatchRules
from tidings_notifications.store import unlocked_batch
from tidings_notifications.store.database import Database, Overtaken
from tidings_notifications.store.inbox_rows import add_inboxes

# Of a larger batch, most likely one inbox changes in between. Then everything is read again.
BATCH_MAX: Final = 50


def store_unlocked(
    database: Database, batch: Sequence[NewNotification], rules: BatchRules, now_ms: int
) -> tuple[list[Stored], bool] | None:
    """Store notifications of known categories, in order. Returns their results, and whether there are events.

    None: nothing was written, since the batch is large, begins a digest or repeats an old id, or since another
    transaction was faster. Then the inboxes have to be locked.

    Raises:
        TidingsError: see `Database.write`.
    """
    categories = rules.categories
    if len(batch) > BATCH_MAX or any(categories[new.category].digest_s > 0 for new in batch):
        return None
    users = {new.user for new in batch}
    keys = keys_of(batch, categories)
    try:
        with database.without_transaction() as connection:
            state = unlocked_batch.read_state(connection, users, keys.idempotency, keys.collapse)
            if state.inboxes.keys() != users:
                add_inboxes(connection, users - state.inboxes.keys())
                state = unlocked_batch.read_state(connection, users, keys.idempotency, keys.collapse)
            versions_read = {user: inbox.version for user, inbox in state.inboxes.items()}
            plan = BatchPlan(
                categories=categories,
                inboxes=state.inboxes,
                stored_keys=state.stored_keys,
                collapsible=state.collapsible,
                switched_off=state.switched_off,
                next_id=rules.next_id,
                now_ms=now_ms,
                event_max_bytes=rules.event_max_bytes,
            )
            results = [plan.add(new) for new in batch]
            if plan.released:
                return None
            if not plan.inserted:
                return results, False
            in_inbox = [row for row in plan.inserted if row.place == Place.INBOX]
            deliveries = new_rows(
                in_inbox,
                categories,
                subscribed=state.subscribed,
                inherited_ms=inherited_ms(plan.replaced, state.waiting_ms),
                ids=[str(uuid.uuid4()) for row in in_inbox for _ in categories[row.category].deliveries],
                now_ms=now_ms,
            )
            inboxes = [state.inboxes[user] for user in sorted(plan.changed_users)]
            rows = unlocked_batch.NewRows(inboxes, versions_read, plan.deleted, plan.inserted, deliveries, plan.events)
            return (results, True) if unlocked_batch.write(connection, rows, now_ms) else None
    except Overtaken:
        return None
