"""Mark and delete notifications of one user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tidings_notifications.core.counts import InboxCounts, counted
from tidings_notifications.core.events import InboxEvent, all_event, changed_events, deleted_state
from tidings_notifications.core.ids import idempotency_key, is_id
from tidings_notifications.core.marks import Action, ItemState, marked
from tidings_notifications.store import inbox_rows, notification_rows
from tidings_notifications.store.database import Connection


@dataclass(frozen=True, slots=True)
class MarkResult:
    """What a mark or a deletion changed. `count`: how many notifications. `changed` is empty after a mark of all.

    `unknown`: the ids under which this user has no notification. `counts` and `version` are those after the change.
    """

    count: int
    counts: dict[str, int]
    version: int
    changed: list[ItemState] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def to_wire(self) -> dict[str, object]:
        """The result as clients receive it."""
        changed = [state.to_wire() for state in self.changed]
        return {
            "count": self.count,
            "changed": changed,
            "unknown": self.unknown,
            "counts": self.counts,
            "version": self.version,
        }


def mark_ids(
    connection: Connection, counts: InboxCounts, action: Action, ids: Sequence[str], unknown: list[str], now_ms: int
) -> MarkResult:
    """Apply an action to notifications of the user. `unknown`: ids that the caller has ruled out."""
    states = notification_rows.visible_states(connection, counts.user_id, ids)
    changes = [(state, after) for state in states if (after := marked(state, action, now_ms)) != state]
    changed = [after for _, after in changes]
    if changed:
        for before, after in changes:
            _recount(counts, before, after)
        notification_rows.mark(connection, [state.id for state in changed], action, now_ms)
        write_change(connection, counts, changed_events(counts, changed), now_ms)
    existing = {state.id for state in states}
    missing = [id_ for id_ in ids if id_ not in existing]
    return MarkResult(len(changed), counts.to_wire(), counts.version, changed, unknown + missing)


def mark_all(
    connection: Connection, counts: InboxCounts, action: Action, before: str | None, now_ms: int
) -> MarkResult:
    """Apply an action to the whole inbox, or up to the notification `before`, inclusive."""
    count, unseen, unread = notification_rows.mark_all(connection, counts.user_id, action, before, now_ms)
    if count:
        # What is read has been seen; what is archived does not count.
        counts.change(unseen=-unseen, unread=0 if action is Action.SEEN else -unread)
        write_change(connection, counts, [all_event(counts, action, before, now_ms)], now_ms)
    return MarkResult(count, counts.to_wire(), counts.version)


def delete_matching(
    connection: Connection, counts: InboxCounts, ids: Sequence[str], group: str | None, now_ms: int
) -> MarkResult:
    """Delete a user's notifications by their ids or their callers' ids, or all of a group."""
    keys = {idempotency_key(counts.user_id, id_): id_ for id_ in ids}
    own_ids = [id_ for id_ in ids if is_id(id_)]
    rows = notification_rows.matching(connection, counts.user_id, ids=own_ids, keys=keys, group=group)
    states = [state for state, _ in rows]
    for state in states:
        _recount(counts, state, deleted_state(state.id))
    if states:
        notification_rows.delete(connection, [state.id for state in states], now_ms)
    # Clients do not know a digest that still collects.
    gone = [deleted_state(state.id) for state in states if state.place in notification_rows.VISIBLE]
    if gone:
        write_change(connection, counts, changed_events(counts, [], gone), now_ms)
    matched = {state.id for state in states} | {keys[key] for _, key in rows if key in keys}
    unknown = [id_ for id_ in ids if id_ not in matched]
    return MarkResult(len(states), counts.to_wire(), counts.version, [], unknown)


def write_change(connection: Connection, counts: InboxCounts, events: Sequence[InboxEvent], now_ms: int) -> None:
    """Write the counts and the events of one user."""
    inbox_rows.write_events(connection, events, now_ms)
    inbox_rows.write_counts(connection, [counts])


def _recount(counts: InboxCounts, before: ItemState, after: ItemState) -> None:
    unseen, unread = counted(before.place, before.seen_ms, before.read_ms)
    unseen_after, unread_after = counted(after.place, after.seen_ms, after.read_ms)
    counts.change(unseen=unseen_after - unseen, unread=unread_after - unread)
