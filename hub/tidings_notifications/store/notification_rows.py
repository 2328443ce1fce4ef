"""Statements on notifications."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from tidings_notifications.core.batch import CALLER_ID_MS, Collapsible
from tidings_notifications.core.counts import InboxCounts
from tidings_notifications.core.ids import first_id
from tidings_notifications.core.marks import Action, ItemState
from tidings_notifications.core.notification import Place, StoredNotification
from tidings_notifications.core.page import PageQuery
from tidings_notifications.store.bulk import insert_rows, is_one_of
from tidings_notifications.store.tables import inbox_table, notification_table

_n = notification_table.c
NAMES = tuple(field.name for field in fields(StoredNotification))
_COUNTS_WIDTH = len(inbox_table.c)
_ROW = sa.select(*(_n[name] for name in NAMES))
_STATE = sa.select(_n.id, _n.place, _n.seen_ms, _n.read_ms, _n.archived_ms)
# A page shows what neither waits nor is deleted.
VISIBLE = (Place.INBOX, Place.ARCHIVED)
# The fields of `Collapsible`, and what a later notification replaces or digests.
COLLAPSIBLE = (_n.id, _n.user_id, _n.collapse_key, _n.place, _n.seen_ms, _n.count, _n.due_ms, _n.expires_ms)
# Not `in_`: SQLAlchemy writes its list only at the execution, and a `DriverStatement` has its text before.
IS_OPEN = _n.read_ms.is_(None) & ((_n.place == Place.INBOX) | (_n.place == Place.WAITING))
# Keys in one statement. SQLite and PostgreSQL have limits for the number of values.
KEYS_MAX = 1000


def insert(connection: sa.Connection, rows: Sequence[StoredNotification]) -> None:
    """Insert rows."""
    insert_rows(connection, notification_table, values_of(rows))


def values_of(rows: Sequence[StoredNotification]) -> list[dict[str, object]]:
    """The columns of rows by name."""
    return [{name: getattr(row, name) for name in NAMES} for row in rows]


def stored_keys(connection: sa.Connection, keys: Collection[str]) -> dict[str, tuple[str, int]]:
    """The idempotency keys that exist, each with the id and the creation time of its notification."""
    rows: dict[str, tuple[str, int]] = {}
    for part in parts(keys):
        query = sa.select(_n.idempotency_key, _n.id, _n.created_ms).where(
            is_one_of(connection, _n.idempotency_key, part)
        )
        rows |= {row.idempotency_key: (row.id, row.created_ms) for row in connection.execute(query)}
    return rows


def collapsible(connection: sa.Connection, keys: Collection[str]) -> list[Collapsible]:
    """The notifications with these collapse keys that are unread in the inbox, or that collect a digest.

    A delivered digest is not among them: it has no collapse key.
    """
    rows: list[Collapsible] = []
    for part in parts(keys):
        query = sa.select(*COLLAPSIBLE).where(is_one_of(connection, _n.collapse_key, part), IS_OPEN)
        rows += [Collapsible(*row) for row in connection.execute(query.order_by(_n.id))]
    return rows


def delete(connection: sa.Connection, ids: Collection[str], now_ms: int) -> None:
    """Delete the content of notifications. Their rows remain as long as their callers' ids count."""
    changes = deletion(now_ms)
    for part in parts(ids):
        connection.execute(notification_table.update().where(is_one_of(connection, _n.id, part)).values(changes))


def deletion(now_ms: Any) -> dict[str, Any]:
    """The columns that a deletion changes."""
    content = dict.fromkeys(("body", "url", "icon", "data", "due_ms", "collapse_key"))
    return content | {
        "place": Place.DELETED,
        "deleted_ms": now_ms,
        "title": "",
        "sweep_ms": _n.created_ms + CALLER_ID_MS,
    }


def purge(connection: sa.Connection, ids: Collection[str]) -> None:
    """Remove rows."""
    for part in parts(ids):
        connection.execute(notification_table.delete().where(is_one_of(connection, _n.id, part)))


def release_keys(connection: sa.Connection, ids: Collection[str]) -> None:
    """End the idempotency keys of rows."""
    for part in parts(ids):
        connection.execute(
            notification_table.update().where(is_one_of(connection, _n.id, part)).values(idempotency_key=None)
        )


def page(
    connection: sa.Connection, user: str, query: PageQuery, now_ms: int
) -> tuple[InboxCounts, list[StoredNotification]]:
    """The counts, and the rows of a page and one more if there are more. What has expired is not among them.

    One statement, so that counts, version and rows are of one moment.
    """
    place = Place.ARCHIVED if query.archived else Place.INBOX
    conditions = [_n.user_id == user, _n.place == place, sa.or_(_n.expires_ms.is_(None), _n.expires_ms > now_ms)]
    if query.category is not None:
        conditions.append(_n.category == query.category)
    if query.unread:
        conditions.append(_n.read_ms.is_(None))
    if query.before is not None:
        conditions.append(_n.id < query.before)
    rows = _ROW.where(*conditions).order_by(_n.id.desc()).limit(query.limit + 1).subquery()
    statement = (
        sa.select(*inbox_table.c, *(rows.c[name].label(f"row_{name}") for name in NAMES))
        .select_from(inbox_table.outerjoin(rows, sa.true()))
        .where(inbox_table.c.user_id == user)
        .order_by(rows.c.id.desc())
    )
    results = connection.execute(statement).all()
    counts = InboxCounts(*results[0][:_COUNTS_WIDTH]) if results else InboxCounts(user)
    return counts, [_notification(row[_COUNTS_WIDTH:]) for row in results if row.row_id is not None]


def visible_states(connection: sa.Connection, user: str, ids: Collection[str]) -> list[ItemState]:
    """The states of a user's visible notifications with these ids, by id."""
    query = _STATE.where(_n.user_id == user, _n.place.in_(VISIBLE), _n.id.in_(list(ids)))
    return [_state(row) for row in connection.execute(query.order_by(_n.id))]


def mark(connection: sa.Connection, ids: Collection[str], action: Action, now_ms: int) -> None:
    """Apply an action to notifications that it changes."""
    changes = _changes(action, now_ms)
    for part in parts(ids):
        connection.execute(notification_table.update().where(is_one_of(connection, _n.id, part)).values(changes))


def mark_all(
    connection: sa.Connection, user: str, action: Action, before: str | None, now_ms: int
) -> tuple[int, int, int]:
    """Apply an action to a user's inbox up to `before`, inclusive.

    Returns how many notifications it changed, and how many of these were unseen and unread.
    """
    conditions = [_n.user_id == user, _n.place == Place.INBOX]
    if before is not None:
        conditions.append(_n.id <= before)
    match action:
        case Action.SEEN:
            conditions.append(_n.seen_ms.is_(None))
        case Action.READ:
            conditions.append(_n.read_ms.is_(None))
    unseen, unread = (sa.func.count() - sa.func.count(column) for column in (_n.seen_ms, _n.read_ms))
    changed = connection.execute(sa.select(sa.func.count(), unseen, unread).where(*conditions)).one()
    if changed[0]:
        connection.execute(notification_table.update().where(*conditions).values(_changes(action, now_ms)))
    return int(changed[0]), int(changed[1]), int(changed[2])


def _changes(action: Action, now_ms: int) -> dict[str, object]:
    match action:
        case Action.SEEN:
            return {"seen_ms": now_ms}
        case Action.READ:
            return {"read_ms": now_ms, "seen_ms": sa.func.coalesce(_n.seen_ms, now_ms)}
        case Action.UNREAD:
            return {"read_ms": None}
        case Action.ARCHIVE:
            return {"place": Place.ARCHIVED, "archived_ms": now_ms}
        case Action.UNARCHIVE:
            return {"place": Place.INBOX, "archived_ms": None}


def matching(
    connection: sa.Connection, user: str, *, ids: Collection[str], keys: Collection[str], group: str | None
) -> list[tuple[ItemState, str | None]]:
    """A user's notifications that are not deleted, each with its idempotency key.

    Those with one of these ids or keys, or those of a group if it is not None.
    """
    is_named = sa.or_(_n.id.in_(list(ids)), _n.idempotency_key.in_(list(keys)))
    query = sa.select(_n.id, _n.place, _n.seen_ms, _n.read_ms, _n.archived_ms, _n.idempotency_key).where(
        _n.user_id == user, _n.place != Place.DELETED, is_named if group is None else _n.group_key == group
    )
    return [(_state(row[:5]), row[5]) for row in connection.execute(query.order_by(_n.id))]


def due(connection: sa.Connection, now_ms: int, limit: int) -> list[tuple[str, str]]:
    """The id and user of rows at which the sweep has to look, the most overdue first."""
    query = sa.select(_n.id, _n.user_id).where(_n.sweep_ms <= now_ms).order_by(_n.sweep_ms).limit(limit)
    return [(row.id, row.user_id) for row in connection.execute(query)]


def old(connection: sa.Connection, until_ms: int, limit: int) -> list[tuple[str, str]]:
    """The id and user of the oldest rows until a time that are not deleted."""
    query = sa.select(_n.id, _n.user_id).where(_n.id < first_id(until_ms + 1), _n.place != Place.DELETED)
    return [(row.id, row.user_id) for row in connection.execute(query.order_by(_n.id).limit(limit))]


def rows_of(connection: sa.Connection, ids: Collection[str]) -> list[StoredNotification]:
    """Rows by their ids."""
    rows: list[StoredNotification] = []
    for part in parts(ids):
        rows += [
            _notification(row)
            for row in connection.execute(_ROW.where(is_one_of(connection, _n.id, part)).order_by(_n.id))
        ]
    return rows


def deliver(connection: sa.Connection, old_id: str, row: StoredNotification) -> None:
    """Put a digest into the inbox, under a new id."""
    changes = {name: getattr(row, name) for name in ("id", "created_ms", "place", "due_ms", "sweep_ms", "collapse_key")}
    connection.execute(notification_table.update().where(_n.id == old_id).values(changes))


def recounted(connection: sa.Connection, user: str) -> tuple[InboxCounts, InboxCounts]:
    """The stored counts of a user, and the counts of the user's rows at the same moment."""
    in_inbox = (_n.user_id == user, _n.place == Place.INBOX)
    unseen, unread = (
        sa.select(sa.func.count()).where(*in_inbox, column.is_(None)).scalar_subquery()
        for column in (_n.seen_ms, _n.read_ms)
    )
    row = connection.execute(
        sa.select(*inbox_table.c, unseen, unread).where(inbox_table.c.user_id == user)
    ).one_or_none()
    if row is None:
        return InboxCounts(user), InboxCounts(user)
    stored = InboxCounts(*row[:_COUNTS_WIDTH])
    return stored, InboxCounts(user, row[-2], row[-1], stored.version)


def parts(values: Iterable[str]) -> list[list[str]]:
    """Different keys in parts, each for one statement."""
    unique = list(dict.fromkeys(values))
    return [unique[first : first + KEYS_MAX] for first in range(0, len(unique), KEYS_MAX)]


def _notification(values: Sequence[Any]) -> StoredNotification:
    """A row from its values, in the order of the fields."""
    return StoredNotification(*values)


def _state(row: Sequence[Any]) -> ItemState:
    return ItemState(*row)
