"""Store a small batch without locks, in one or two round trips to PostgreSQL: what makes a bell ring at once."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from tidings.contrib.outbox.written_rows import WrittenRow
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


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """The results of a batch. `has_events`: whether it wrote events.

    `events`: those that may be published at once, since nothing waits in their channels. `started_s`: when their commit
    began, a time of `time.monotonic`. `versions`: of the inboxes that it changed, by user.
    """

    results: list[Stored]
    has_events: bool = False
    events: Sequence[WrittenRow] = ()
    started_s: float = 0.0
    versions: dict[str, int] = field(default_factory=dict)


def store_unlocked(
    database: Database, batch: Sequence[NewNotification], rules: BatchRules, cache: CountsCache, now_ms: int
) -> StoredBatch | None:
    """Store notifications of known categories, in order.

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

    def store(self, connection: Connection) -> StoredBatch | None:
        """Store it. See `store_unlocked`. Each statement commits by itself."""
        return self._store_by_cache(connection) or self._store(connection)

    def _store_by_cache(self, connection: Connection) -> StoredBatch | None:
        """Write it without a read. None: nothing was written, since something is not known or outdated."""
        has_pushes = any(WEB_PUSH in category.deliveries for category in self._categories.values())
        known = None if self._keys.collapse or has_pushes else self._cache.get(self._users)
        if known is None:
            return None
        versions_read = {user: inbox.version for user, inbox in known.counts.items()}
        plan = self._plan(BatchState(known.counts, {}, [], set(), set(), {}))
        results = [plan.add(new) for new in self._batch]
        if len(plan.inserted) < len(self._batch):
            # Repeated or expired ones: which of both, only the store knows.
            return None
        switchable = [name for name, category in self._categories.items() if not category.required]
        rows = self._rows(plan, versions_read, set(), {})
        started_s = time.monotonic()
        events = write(connection, rows, self._now_ms, Assumptions(self._keys.idempotency, switchable))
        if events is None:
            self._cache.forget(self._users)
            return None
        self._cache.put(rows.inboxes)
        # The inboxes had the versions whose events are published, so there are no others.
        first_events = events if known.are_published else ()
        return StoredBatch(results, bool(events), first_events, started_s, rows.versions)

    def _store(self, connection: Connection) -> StoredBatch | None:
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
            return StoredBatch(results)
        rows = self._rows(plan, versions_read, state.subscribed, state.waiting_ms)
        started_s = time.monotonic()
        events = write(connection, rows, self._now_ms)
        if events is None:
            return None
        # For a user who has switched something off, what is assumed would often be wrong.
        users_off = {user for user, _ in state.switched_off}
        self._cache.put(inbox for inbox in rows.inboxes if inbox.user_id not in users_off)
        # No inbox has changed since the read, so no further event waits.
        waiting = state.waiting_channels
        is_first = waiting is not None and not any(event.channel in waiting for event in events)
        return StoredBatch(results, bool(events), events if is_first else (), started_s, rows.versions)

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
