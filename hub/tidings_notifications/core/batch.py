"""What a batch of new notifications changes: rows, counts and events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tidings_notifications.core.counts import InboxCounts, counted
from tidings_notifications.core.events import InboxEvent, notification_event
from tidings_notifications.core.ids import digest_key, group_key, idempotency_key
from tidings_notifications.core.notification import Category, NewNotification, Place, State, Stored, StoredNotification

# For so long an id that a backend chose makes a notification once.
CALLER_ID_MS = 7 * 86_400_000


@dataclass(slots=True)
class Keys:
    """The keys of a batch, to look up what the store has of them."""

    idempotency: list[str] = field(default_factory=list)
    collapse: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Collapsible:
    """A stored notification that a later one replaces or digests."""

    id: str
    user_id: str
    collapse_key: str
    place: Place
    seen_ms: int | None
    count: int
    due_ms: int | None
    expires_ms: int | None


def keys_of(batch: Sequence[NewNotification], categories: Mapping[str, Category]) -> Keys:
    """The keys of a batch."""
    keys = Keys()
    for new in batch:
        keys.idempotency.append(idempotency_key(new.user, new.caller_id))
        if (key := collapse_key_of(new, categories[new.category])) is not None:
            keys.collapse.append(key)
    return keys


def collapse_key_of(new: NewNotification, category: Category) -> str | None:
    """The key of the earlier notifications that this one replaces or digests; None: it stands for itself."""
    if category.digest_s > 0:
        return digest_key(new.user, new.category, new.group)
    return None if new.group is None else group_key(new.user, new.group)


@dataclass(slots=True)
class BatchPlan:
    """Decides one notification after another. The caller then writes what the fields hold.

    `inboxes`: the locked row of each user. `stored_keys`: idempotency keys in the store, with the id and the creation
    time of their notification. `collapsible`: what the store has of the batch's collapse keys, unread or collecting.
    `switched_off`: pairs of user and category. `next_id`: see `IdSequence.next`.
    """

    categories: Mapping[str, Category]
    inboxes: Mapping[str, InboxCounts]
    stored_keys: dict[str, tuple[str, int]]
    collapsible: list[Collapsible]
    switched_off: set[tuple[str, str]]
    next_id: Callable[[int], tuple[str, int]]
    now_ms: int
    event_max_bytes: int
    # Rows to insert, ids of rows to delete, and ids of rows whose idempotency key ends.
    inserted: list[StoredNotification] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    events: list[InboxEvent] = field(default_factory=list)
    changed_users: set[str] = field(default_factory=set)
    # Ids of rows in the inbox, each with the ids that it replaces.
    replaced: dict[str, list[str]] = field(default_factory=dict)
    _earlier: dict[str, list[Collapsible | StoredNotification]] = field(init=False)

    def __post_init__(self) -> None:
        self._earlier = {}
        for row in self.collapsible:
            self._earlier.setdefault(row.collapse_key, []).append(row)

    def add(self, new: NewNotification) -> Stored:
        """Decide one notification."""
        key = idempotency_key(new.user, new.caller_id)
        if (before := self.stored_keys.get(key)) is not None:
            row_id, created_ms = before
            if created_ms > self.now_ms - CALLER_ID_MS:
                return Stored(new.caller_id, duplicate=True)
            self.released.append(row_id)
            del self.stored_keys[key]
        category = self.categories[new.category]
        if not category.required and (new.user, new.category) in self.switched_off:
            return Stored(new.caller_id, State.SUPPRESSED)
        if new.expires_ms is not None and new.expires_ms <= self.now_ms:
            return Stored(new.caller_id, State.EXPIRED)
        row = self._row_of(new, key, category)
        self.stored_keys[key] = row.id, self.now_ms
        if row.place == Place.WAITING:
            self._collect(row)
        else:
            self._deliver(row)
        self.inserted.append(row)
        return Stored(new.caller_id)

    def _row_of(self, new: NewNotification, key: str, category: Category) -> StoredNotification:
        row_id, created_ms = self.next_id(self.now_ms)
        due_ms = self.now_ms + category.digest_s * 1000 if category.digest_s > 0 else None
        return StoredNotification(
            id=row_id,
            user_id=new.user,
            place=Place.INBOX if due_ms is None else Place.WAITING,
            category=new.category,
            title=new.title,
            created_ms=created_ms,
            caller_id=new.caller_id,
            idempotency_key=key,
            body=new.body,
            url=new.url,
            icon=new.icon,
            data=new.data,
            group_key=new.group,
            collapse_key=collapse_key_of(new, category),
            due_ms=due_ms,
            expires_ms=new.expires_ms,
            sweep_ms=earliest_ms(due_ms, new.expires_ms),
        )

    def _collect(self, row: StoredNotification) -> None:
        """Add a notification to the digest that collects, or begin one. The latest one represents the digest.

        It expires with the last of them: otherwise a notification would take others with it that did not expire.
        """
        for earlier in self._take(row.collapse_key):
            row.count += earlier.count
            row.due_ms = earlier.due_ms
            row.expires_ms = latest_end_ms(row.expires_ms, earlier.expires_ms)
            row.sweep_ms = earliest_ms(row.due_ms, row.expires_ms)
            self._delete(earlier)
        self._earlier[row.collapse_key or ""] = [row]

    def _deliver(self, row: StoredNotification) -> None:
        """Put a notification into the inbox, in the place of the unread ones of its group."""
        counts, replaces = self.inboxes[row.user_id], []
        for earlier in self._take(row.collapse_key):
            unseen, unread = counted(Place.INBOX, earlier.seen_ms, None)
            counts.change(unseen=-unseen, unread=-unread)
            replaces.append(earlier.id)
            self._delete(earlier)
        counts.change(unseen=1, unread=1)
        if row.collapse_key is not None:
            self._earlier[row.collapse_key] = [row]
            self.replaced[row.id] = [id_ for earlier in replaces for id_ in (earlier, *self.replaced.pop(earlier, ()))]
        self.changed_users.add(row.user_id)
        self.events.append(notification_event(row, counts, replaces=replaces, max_bytes=self.event_max_bytes))

    def _take(self, collapse_key: str | None) -> list[Collapsible | StoredNotification]:
        return [] if collapse_key is None else self._earlier.pop(collapse_key, [])

    def _delete(self, row: Collapsible | StoredNotification) -> None:
        if isinstance(row, StoredNotification):
            erase(row, self.now_ms)
        else:
            self.deleted.append(row.id)


def earliest_ms(*times_ms: int | None) -> int | None:
    """The earliest of some times; None: there is none."""
    return min((time_ms for time_ms in times_ms if time_ms is not None), default=None)


def latest_end_ms(*ends_ms: int | None) -> int | None:
    """The latest of some ends; None, which is without an end, is later than all."""
    return None if None in ends_ms else max(end_ms for end_ms in ends_ms if end_ms is not None)


def erase(row: StoredNotification, now_ms: int) -> None:
    """Delete a notification that is not written yet: its row remains as long as its caller's id counts."""
    row.place, row.deleted_ms, row.sweep_ms = Place.DELETED, now_ms, row.created_ms + CALLER_ID_MS
    row.title = ""
    row.body = row.url = row.icon = row.data = row.due_ms = row.collapse_key = None
