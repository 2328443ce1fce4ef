"""The events of a user's channel: `tidings:notification` and `tidings:inbox`, as JSON text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from tidings_notifications.core.counts import InboxCounts
from tidings_notifications.core.marks import Action, ItemState
from tidings_notifications.core.notification import Place, StoredNotification

NOTIFICATION_EVENT = "tidings:notification"
INBOX_EVENT = "tidings:inbox"
# So that an event stays far below the usual limit of a publication.
CHANGED_MAX = 250
_OPTIONAL = ("body", "url", "icon")


@dataclass(frozen=True, slots=True)
class InboxEvent:
    """One event for one user. `data`: JSON text."""

    user_id: str
    event: str
    data: str


def item_of(row: StoredNotification) -> dict[str, object]:
    """A notification as clients receive it, without `data`. Optional fields that it lacks are left out."""
    item: dict[str, object] = {"id": row.id, "category": row.category, "title": row.title}
    item |= {name: value for name in _OPTIONAL if (value := getattr(row, name)) is not None}
    if row.group_key is not None:
        item["group"] = row.group_key
    item |= {"count": row.count, "created_at": row.created_ms}
    if row.expires_ms is not None:
        item["expires_at"] = row.expires_ms
    return item | {"seen_at": row.seen_ms, "read_at": row.read_ms, "archived_at": row.archived_ms}


def full_item_of(row: StoredNotification) -> dict[str, object]:
    """A notification as clients receive it in a page."""
    item = item_of(row)
    return item if row.data is None else item | {"data": json.loads(row.data)}


def notification_event(
    row: StoredNotification, counts: InboxCounts, *, replaces: Sequence[str] = (), max_bytes: int
) -> InboxEvent:
    """The event of a new notification. Takes the next version.

    If it would be larger than `max_bytes`, the item lacks its data, and `omitted` names it.
    """
    rest: dict[str, object] = {"counts": counts.to_wire(), "version": counts.next_version()}
    if replaces:
        rest["replaces"] = list(replaces)
    item, tail = _dumps(item_of(row)), _dumps(rest)
    if row.data is not None:
        text = f'{{"item":{item[:-1]},"data":{row.data}}},{tail[1:]}'
        if len(text.encode()) <= max_bytes:
            return InboxEvent(row.user_id, NOTIFICATION_EVENT, text)
        tail = _dumps(rest | {"omitted": ["data"]})
    return InboxEvent(row.user_id, NOTIFICATION_EVENT, f'{{"item":{item},{tail[1:]}')


def changed_events(
    counts: InboxCounts, changed: Sequence[ItemState], deleted: Sequence[ItemState] = ()
) -> list[InboxEvent]:
    """The events of changed and deleted notifications, each with at most `CHANGED_MAX` of them.

    Each takes one version. The counts are those after the last one.
    """
    entries = [state.to_wire() for state in changed] + [state.to_wire() | {"deleted": True} for state in deleted]
    return [
        _inbox_event(counts, {"changed": entries[first : first + CHANGED_MAX]})
        for first in range(0, len(entries), CHANGED_MAX)
    ]


def all_event(counts: InboxCounts, action: Action, before: str | None, now_ms: int) -> InboxEvent:
    """The event of an action for all notifications, or for those up to `before`, inclusive. Takes the next version."""
    subject: dict[str, object] = {"state": action.value, "at": now_ms}
    return _inbox_event(counts, {"changed": [], "all": subject if before is None else subject | {"before": before}})


def deleted_state(row_id: str) -> ItemState:
    """The state of a deleted notification."""
    return ItemState(row_id, Place.DELETED, None, None, None)


def _inbox_event(counts: InboxCounts, data: dict[str, object]) -> InboxEvent:
    rest = {"counts": counts.to_wire(), "version": counts.next_version()}
    return InboxEvent(counts.user_id, INBOX_EVENT, _dumps(data | rest))


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
