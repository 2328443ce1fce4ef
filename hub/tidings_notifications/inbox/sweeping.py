"""The sweep: deliver digests that are due, remove what has expired or is old."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tidings_notifications.core.counts import counted
from tidings_notifications.core.events import InboxEvent, changed_events, deleted_state, notification_event
from tidings_notifications.core.marks import ItemState
from tidings_notifications.core.notification import IN_APP, Category, Place, StoredNotification
from tidings_notifications.core.sweep import Sweep, sweep_of
from tidings_notifications.inbox.deliveries import write_new
from tidings_notifications.inbox.transactions import Inboxes
from tidings_notifications.store import inbox_rows, notification_rows
from tidings_notifications.store.database import Connection

BATCH = 500


@dataclass(slots=True)
class SweepCounts:
    """How many digests a sweep delivered, and how many notifications it deleted and rows it removed."""

    delivered: int = 0
    deleted: int = 0
    purged: int = 0

    def add(self, other: SweepCounts) -> None:
        """Add the counts of another one."""
        self.delivered += other.delivered
        self.deleted += other.deleted
        self.purged += other.purged

    @property
    def total(self) -> int:
        """How many rows it changed."""
        return self.delivered + self.deleted + self.purged


@dataclass(frozen=True, slots=True)
class SweepRules:
    """What the sweep works by. `next_id`: see `IdSequence.next`."""

    categories: Mapping[str, Category]
    next_id: Callable[[int], tuple[str, int]]
    event_max_bytes: int
    keep_ms: int

    def is_required(self, category: str) -> bool:
        """Whether users cannot switch a category off."""
        return category in self.categories and self.categories[category].required


@dataclass(slots=True)
class SweepBatch:
    """One transaction of the sweep, on rows whose users' inboxes are locked."""

    connection: Connection
    inboxes: Inboxes
    rules: SweepRules
    now_ms: int
    events: list[InboxEvent] = field(default_factory=list)
    _gone: dict[str, list[ItemState]] = field(default_factory=dict)

    def run(self, ids: Sequence[str]) -> SweepCounts:
        """Decide each row again, now that it cannot change, and write the decisions."""
        rows = notification_rows.rows_of(self.connection, ids)
        decided: dict[Sweep, list[StoredNotification]] = {decision: [] for decision in Sweep}
        for row in rows:
            decided[sweep_of(row, now_ms=self.now_ms, keep_ms=self.rules.keep_ms)].append(row)
        delivered, suppressed = self._split_suppressed(decided[Sweep.DELIVER])
        deleted, purged = decided[Sweep.DELETE] + suppressed, decided[Sweep.PURGE]
        for row in (*deleted, *purged):
            self._remove(row)
        notification_rows.delete(self.connection, [row.id for row in deleted], self.now_ms)
        notification_rows.purge(self.connection, [row.id for row in purged])
        for user, states in self._gone.items():
            self.events += changed_events(self.inboxes[user], [], states)
        for row in delivered:
            self._deliver(row)
        write_new(self.connection, delivered, self.rules.categories, self.now_ms)
        inbox_rows.write_events(self.connection, self.events, self.now_ms)
        changed_users = sorted({event.user_id for event in self.events})
        inbox_rows.write_counts(self.connection, [self.inboxes[user] for user in changed_users])
        return SweepCounts(len(delivered), len(deleted), len(purged))

    def _split_suppressed(
        self, rows: list[StoredNotification]
    ) -> tuple[list[StoredNotification], list[StoredNotification]]:
        """Digests to deliver, and those whose category their user has switched off meanwhile."""
        users = {row.user_id for row in rows}
        switched_off = inbox_rows.switched_off(self.connection, users, IN_APP) if users else set()
        suppressed = [
            row
            for row in rows
            if (row.user_id, row.category) in switched_off and not self.rules.is_required(row.category)
        ]
        ids = {row.id for row in suppressed}
        return [row for row in rows if row.id not in ids], suppressed

    def _remove(self, row: StoredNotification) -> None:
        unseen, unread = counted(row.place, row.seen_ms, row.read_ms)
        self.inboxes[row.user_id].change(unseen=-unseen, unread=-unread)
        if row.place in notification_rows.VISIBLE:
            self._gone.setdefault(row.user_id, []).append(deleted_state(row.id))

    def _deliver(self, row: StoredNotification) -> None:
        """Put a digest into the inbox, as new: clients have not seen its id, and pages are in the order of ids."""
        old_id = row.id
        row.id, row.created_ms = self.rules.next_id(self.now_ms)
        row.place, row.due_ms, row.collapse_key, row.sweep_ms = Place.INBOX, None, None, row.expires_ms
        notification_rows.deliver(self.connection, old_id, row)
        counts = self.inboxes[row.user_id]
        counts.change(unseen=1, unread=1)
        self.events.append(notification_event(row, counts, max_bytes=self.rules.event_max_bytes))
