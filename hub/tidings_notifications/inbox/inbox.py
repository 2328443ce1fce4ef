"""`Inbox`: everything that the service does with inboxes. Each method is one transaction, the sweep several."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from tidings.contrib.outbox.written_rows import WrittenRow, are_of_different_channels
from tidings.errors import BadRequest, TidingsError
from tidings.wire.payload import MAX_BYTES
from tidings_notifications.core.counts import InboxCounts
from tidings_notifications.core.ids import IdSequence
from tidings_notifications.core.marks import check_action, check_ids, split_ids
from tidings_notifications.core.notification import Category, NewNotification, Stored
from tidings_notifications.core.page import InboxPage, PageQuery, check_before, page_of
from tidings_notifications.core.preferences import check_preference, preferences_of, unknown_category
from tidings_notifications.core.sweep import DAY_MS
from tidings_notifications.inbox.counts_cache import CountsCache
from tidings_notifications.inbox.marking import MarkResult, delete_matching, mark_all, mark_ids
from tidings_notifications.inbox.storing import BatchRules, store_batch
from tidings_notifications.inbox.storing_unlocked import StoredBatch, store_unlocked
from tidings_notifications.inbox.sweeping import BATCH, SweepBatch, SweepCounts, SweepRules
from tidings_notifications.inbox.transactions import Inboxes, Result, write_locked
from tidings_notifications.store import inbox_rows, notification_rows
from tidings_notifications.store.database import Connection, Database

KEEP_DAYS = 90
# A sweep ends after so many transactions. The next one continues.
SWEEP_BATCHES = 100


class EventPublisher(Protocol):
    """Publishes events in the thread that has committed them. What it cannot publish it leaves to another thread."""

    def publish_written(self, events: Sequence[WrittenRow], started_s: float) -> bool:
        """Publish these events, which are the first of their channels. See `Relay.publish_written`."""

    def publish_now(self) -> bool:
        """Publish what waits. See `Relay.publish_now`."""


class Inbox:
    """The inboxes of all users in one database. Threads may share it, and several processes may have one each.

    `categories`: the rules by name. It may be replaced at any time. `event_max_bytes`: larger events lack their data.
    `on_events`: called after each commit that wrote events into the outbox (`store.tables.OUTBOX`).

    All methods raise what `Database.write` or `Database.read` raises: BadConfig, Unavailable, TimedOut.
    """

    def __init__(
        self,
        database: Database,
        categories: Mapping[str, Category],
        *,
        keep_days: int = KEEP_DAYS,
        event_max_bytes: int = MAX_BYTES,
        on_events: Callable[[], None] = lambda: None,
    ) -> None:
        self.categories = categories
        self._database = database
        self._keep_ms = keep_days * DAY_MS
        self._event_max_bytes = event_max_bytes
        self._on_events = on_events
        self._cache = CountsCache()
        self._ids = IdSequence(os.urandom)
        self._ids_lock = threading.Lock()

    def store(
        self, batch: Sequence[NewNotification], now_ms: int, *, publisher: EventPublisher | None = None
    ) -> list[Stored | TidingsError]:
        """Store notifications in order, in one transaction. Returns one result for each, in order.

        A notification of an unknown category has an error in its place. `publisher`: publishes the events in this
        thread; without one, `on_events` is called.
        """
        rules = BatchRules(dict(self.categories), self._next_id, self._event_max_bytes)
        known = [new for new in batch if new.category in rules.categories]

        def work(connection: Connection, inboxes: Inboxes) -> tuple[list[Stored], bool]:
            return store_batch(connection, inboxes, known, rules, now_ms)

        stored = StoredBatch([])
        if known:
            unlocked = self._store_unlocked(known, rules, now_ms)
            stored = unlocked or StoredBatch(*self._write_locked({new.user for new in known}, work))
        if stored.has_events and publisher is not None:
            self._publish(stored, publisher)
        elif stored.has_events:
            self._on_events()
        in_order = iter(stored.results)
        return [
            next(in_order) if new.category in rules.categories else unknown_category(new.category, rules.categories)
            for new in batch
        ]

    def page(self, user: str, query: PageQuery, now_ms: int) -> InboxPage:
        """One page of a user's inbox, with the counts of the same moment."""
        counts, rows = self._database.read(lambda connection: notification_rows.page(connection, user, query, now_ms))
        return page_of(rows, counts, query)

    def mark(self, user: str, action: object, now_ms: int, *, ids: object) -> MarkResult:
        """Apply an action (`marks.Action`) to a user's notifications. Foreign and unknown ids change nothing.

        Raises:
            BadRequest: an unknown action, or no list of ids. TooLarge: more than `marks.IDS_MAX` ids.
        """
        known_action = check_action(action, for_all=False)
        known_ids, others = split_ids(ids)
        return self._change_one(
            user, lambda connection, counts: mark_ids(connection, counts, known_action, known_ids, others, now_ms)
        )

    def mark_all(self, user: str, action: object, now_ms: int, *, before: object = None) -> MarkResult:
        """Mark a user's whole inbox `seen` or `read`, or archive it. One statement and one event.

        `before`: only this notification and older ones.

        Raises:
            BadRequest: an unknown action, or `before` is not an id.
        """
        known_action, last_id = check_action(action, for_all=True), check_before(before)
        return self._change_one(
            user, lambda connection, counts: mark_all(connection, counts, known_action, last_id, now_ms)
        )

    def delete(self, user: str, now_ms: int, *, ids: object = None, group: object = None) -> MarkResult:
        """Delete a user's notifications, for a backend: by ids, or all of a group.

        An id is the notification's own or the one that the backend gave it.

        Raises:
            BadRequest: not exactly one of `ids` and `group`. TooLarge: more than `marks.IDS_MAX` ids.
        """
        if (ids is None) == (group is None) or not isinstance(group, str | None):
            raise BadRequest("name either ids or a group to delete")
        texts = [] if ids is None else check_ids(ids)
        return self._change_one(
            user, lambda connection, counts: delete_matching(connection, counts, texts, group, now_ms)
        )

    def preferences(self, user: str) -> list[dict[str, object]]:
        """All categories, each with its label and whether this user has it on, by method."""
        switched_off = self._database.read(lambda connection: inbox_rows.preferences(connection, user))
        return preferences_of(self.categories, switched_off)

    def set_preference(self, user: str, category: object, method: object, enabled: object) -> list[dict[str, object]]:
        """Switch a category on or off for a user, by method. Returns all preferences.

        Raises:
            BadRequest: unknown category or method. Forbidden: the category is required.
        """
        choice = check_preference(self.categories, category, method, enabled)

        def work(connection: Connection, _inboxes: Inboxes) -> set[tuple[str, str]]:
            inbox_rows.write_preference(connection, user, choice)
            return inbox_rows.preferences(connection, user)

        return preferences_of(self.categories, self._write_locked({user}, work))

    def sweep(self, now_ms: int, *, batches: int = SWEEP_BATCHES) -> SweepCounts:
        """Deliver digests that are due, and remove what has expired or is old.

        Each transaction looks at no more than 500 rows. `batches`: the largest number of transactions. Several
        processes may sweep at once.
        """
        rules = SweepRules(dict(self.categories), self._next_id, self._event_max_bytes, self._keep_ms)
        total = SweepCounts()
        for _ in range(batches):
            counts = self._sweep_batch(rules, now_ms)
            total.add(counts)
            if counts.total == 0:
                break
        return total

    def check_write(self) -> None:
        """Write a row and remove it again, in one transaction: a database that only answers reads fails here."""
        self._database.write(inbox_rows.write_and_remove)

    def recount(self, user: str) -> tuple[InboxCounts, InboxCounts]:
        """The stored counts of a user, and the same counted row by row. They are equal at any time."""
        return self._database.read(lambda connection: notification_rows.recounted(connection, user))

    def _sweep_batch(self, rules: SweepRules, now_ms: int) -> SweepCounts:
        def due(connection: Connection) -> list[tuple[str, str]]:
            rows = notification_rows.due(connection, now_ms, BATCH)
            return rows or notification_rows.old(connection, now_ms - rules.keep_ms, BATCH)

        rows = self._database.read(due)
        if not rows:
            return SweepCounts()

        def work(connection: Connection, inboxes: Inboxes) -> tuple[SweepCounts, bool]:
            batch = SweepBatch(connection, inboxes, rules, now_ms)
            return batch.run([row_id for row_id, _ in rows]), bool(batch.events)

        counts, has_events = self._write_locked({user for _, user in rows}, work)
        if has_events:
            self._on_events()
        return counts

    def _change_one(self, user: str, change: Callable[[Connection, InboxCounts], MarkResult]) -> MarkResult:
        """Change the inbox of one user. A user without one gets none: there is nothing to change."""

        def work(connection: Connection, inboxes: Inboxes) -> MarkResult:
            return change(connection, inboxes.get(user) or InboxCounts(user))

        result = self._write_locked({user}, work, create=False)
        if result.count:
            self._on_events()
        return result

    def _store_unlocked(self, batch: Sequence[NewNotification], rules: BatchRules, now_ms: int) -> StoredBatch | None:
        if not self._database.has_driver_statements:
            return None
        return store_unlocked(self._database, batch, rules, self._cache, now_ms)

    def _publish(self, stored: StoredBatch, publisher: EventPublisher) -> None:
        are_first = bool(stored.events) and are_of_different_channels(stored.events)
        if publisher.publish_written(stored.events, stored.started_s) if are_first else publisher.publish_now():
            self._cache.set_published(stored.versions)

    def _write_locked(
        self, users: set[str], work: Callable[[Connection, Inboxes], Result], *, create: bool = True
    ) -> Result:
        """See `write_locked`."""
        try:
            return write_locked(self._database, users, work, create=create)
        finally:
            self._cache.forget(users)

    def _next_id(self, now_ms: int) -> tuple[str, int]:
        with self._ids_lock:
            return self._ids.next(now_ms)
