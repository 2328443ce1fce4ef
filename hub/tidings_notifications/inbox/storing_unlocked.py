"""Store a small batch without locks, in one or two round trips to PostgreSQL: what makes a bell ring at once."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Final

from tidings_notifications.core.batch import BatchPlan, Keys, keys_of
from tidings_notifications.core.delivery_plan import inherited_ms, new_rows
from tidings_notifications.core.notification import WEB_PUSH, NewNotification, Place, Stored
from tidings_notifications.inbox.counts_cache import CountsCache
from tidings_notifications.inbox.storing import BatchRules
from tidings_notifications.store.database import Connection, Database, Overtaken
from tidings_notifications.store.unlocked_batch import (
    Assumptions,
    BatchState,
    NewRows,
    add_inboxes,
    read_state,
    write,
)

# Of a larger batch, most likely one inbox changes in between. Then everything is read again.
BATCH_MAX: Final = 50


def store_unlocked(
    database: Database, batch: Sequence[NewNotification], rules: BatchRules, cache: CountsCache, now_ms: int
) -> tuple[list[Stored], bool] | None:
    """Store notifications of known categories, in order. Returns their results, and whether there are events.

    `cache`: counts of users, which may be outdated. None: nothing was written, since the batch is large, begins a
    digest or repeats an old id, or since another transaction was faster. Then the inboxes have to be locked.

    Raises:
        TidingsError: see `Database.write`.
    """
    if len(batch) > BATCH_MAX or any(rules.categories[new.category].digest_s > 0 for new in batch):
        return None
    try:
        with database.without_transaction() as connection:
            return UnlockedBatch(batch, rules, cache, now_ms).store(connection)
    except Overtaken:
        cache.forget({new.user for new in batch})
        return None


class UnlockedBatch:
    """One small batch. `cache`: counts of users, which may be outdated."""

    def __init__(self, batch: Sequence[NewNotification], rules: BatchRules, cache: CountsCache, now_ms: int) -> None:
        self._batch, self._rules, self._cache, self._now_ms = batch, rules, cache, now_ms
        self._categories = {new.category: rules.categories[new.category] for new in batch}
        self._users = {new.user for new in batch}
        self._keys: Keys = keys_of(batch, rules.categories)

    def store(self, connection: Connection) -> tuple[list[Stored], bool] | None:
        """Store it. See `store_unlocked`. Each statement commits by itself."""
        return self._store_by_cache(connection) or self._store(connection)

    def _store_by_cache(self, connection: Connection) -> tuple[list[Stored], bool] | None:
        """Write it without a read. None: nothing was written, since something is not known or outdated."""
        has_pushes = any(WEB_PUSH in category.deliveries for category in self._categories.values())
        inboxes = None if self._keys.collapse or has_pushes else self._cache.get(self._users)
        if inboxes is None:
            return None
        versions_read = {user: inbox.version for user, inbox in inboxes.items()}
        plan = self._plan(BatchState(inboxes, {}, [], set(), set(), {}))
        results = [plan.add(new) for new in self._batch]
        if len(plan.inserted) < len(self._batch):
            # Repeated or expired ones: which of both, only the store knows.
            return None
        switchable = [name for name, category in self._categories.items() if not category.required]
        rows = self._rows(plan, versions_read, set(), {})
        if write(connection, rows, self._now_ms, Assumptions(self._keys.idempotency, switchable)):
            self._cache.put(rows.inboxes)
            return results, True
        self._cache.forget(self._users)
        return None

    def _store(self, connection: Connection) -> tuple[list[Stored], bool] | None:
        """Read the state and write the batch."""
        state = read_state(connection, self._users, self._keys.idempotency, self._keys.collapse)
        if state.inboxes.keys() != self._users:
            add_inboxes(connection, self._users - state.inboxes.keys())
            state = read_state(connection, self._users, self._keys.idempotency, self._keys.collapse)
        versions_read = {user: inbox.version for user, inbox in state.inboxes.items()}
        plan = self._plan(state)
        results = [plan.add(new) for new in self._batch]
        if plan.released:
            return None
        if not plan.inserted:
            return results, False
        rows = self._rows(plan, versions_read, state.subscribed, state.waiting_ms)
        if not write(connection, rows, self._now_ms):
            return None
        # For a user who has switched something off, what is assumed would often be wrong.
        users_off = {user for user, _ in state.switched_off}
        self._cache.put(inbox for inbox in rows.inboxes if inbox.user_id not in users_off)
        return results, True

    def _plan(self, state: BatchState) -> BatchPlan:
        return BatchPlan(
            categories=self._rules.categories,
            inboxes=state.inboxes,
            stored_keys=state.stored_keys,
            collapsible=state.collapsible,
            switched_off=state.switched_off,
            next_id=self._rules.next_id,
            now_ms=self._now_ms,
            event_max_bytes=self._rules.event_max_bytes,
        )

    def _rows(
        self, plan: BatchPlan, versions_read: dict[str, int], subscribed: set[str], waiting_ms: dict[str, int]
    ) -> NewRows:
        in_inbox = [row for row in plan.inserted if row.place == Place.INBOX]
        deliveries = new_rows(
            in_inbox,
            self._categories,
            subscribed=subscribed,
            inherited_ms=inherited_ms(plan.replaced, waiting_ms),
            ids=[str(uuid.uuid4()) for row in in_inbox for _ in self._categories[row.category].deliveries],
            now_ms=self._now_ms,
        )
        inboxes = [plan.inboxes[user] for user in sorted(plan.changed_users)]
        return NewRows(inboxes, versions_read, plan.deleted, plan.inserted, deliveries, plan.events)
