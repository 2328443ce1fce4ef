"""Statements on inboxes, preferences and events."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from tidings.wire.ids import new_id
from tidings_notifications.core.counts import InboxCounts
from tidings_notifications.core.events import InboxEvent
from tidings_notifications.core.preferences import Preference
from tidings_notifications.store.bulk import insert_rows, is_one_of, update_rows_from_json
from tidings_notifications.store.tables import event_table, inbox_table, preference_table

_inbox, _preference = inbox_table.c, preference_table.c
_COUNTS = sa.select(_inbox.user_id, _inbox.unseen, _inbox.unread, _inbox.version)


def lock_inboxes(connection: sa.Connection, users: Collection[str]) -> dict[str, InboxCounts]:
    """Lock the rows of these users, in sorted order, and return them. Users without a row are missing."""
    is_theirs = is_one_of(connection, _inbox.user_id, sorted(users))
    query = _COUNTS.where(is_theirs).order_by(_inbox.user_id).with_for_update()
    return {row.user_id: InboxCounts(*row) for row in connection.execute(query)}


def add_inboxes(connection: sa.Connection, users: Iterable[str]) -> None:
    """Insert the rows of users that have none. In a transaction of its own: it locks rows in another order."""
    rows = [{"user_id": user, "unseen": 0, "unread": 0, "version": 0} for user in sorted(users)]
    match connection.dialect.name:
        case "postgresql":
            connection.execute(postgresql.insert(inbox_table).on_conflict_do_nothing(), rows)
        case "sqlite":
            connection.execute(sqlite.insert(inbox_table).on_conflict_do_nothing(), rows)
        case _:
            statement = mysql.insert(inbox_table)
            connection.execute(statement.on_duplicate_key_update(user_id=statement.inserted.user_id), rows)


def write_and_remove(connection: sa.Connection) -> None:
    """Insert a row without a user and delete it. Its name is new and has a space, which no user's name has."""
    row = {"user_id": f" {uuid.uuid4()}", "unseen": 0, "unread": 0, "version": 0}
    connection.execute(inbox_table.insert(), row)
    connection.execute(inbox_table.delete().where(_inbox.user_id == row["user_id"]))


def counts_of(connection: sa.Connection, user: str) -> InboxCounts:
    """The counts of a user. A user without a row has an empty inbox."""
    row = connection.execute(_COUNTS.where(_inbox.user_id == user)).one_or_none()
    return InboxCounts(user) if row is None else InboxCounts(*row)


def counts_of_users(connection: sa.Connection, users: Collection[str]) -> dict[str, InboxCounts]:
    """The counts of some users, without a lock. Users without a row are missing."""
    query = _COUNTS.where(_inbox.user_id.in_(sorted(users)))
    return {row.user_id: InboxCounts(*row) for row in connection.execute(query)}


def write_counts(connection: sa.Connection, inboxes: Sequence[InboxCounts]) -> None:
    """Write the counts of locked rows, in one statement where the database allows that."""
    rows = count_values(inboxes)
    if not rows:
        return
    match connection.dialect.name:
        case "postgresql":
            update_rows_from_json(connection, inbox_table, rows)
        case "sqlite":
            values: dict[str, Any] = {name: sa.bindparam(f"new_{name}") for name in ("unseen", "unread", "version")}
            statement = inbox_table.update().where(_inbox.user_id == sa.bindparam("new_user_id")).values(values)
            connection.execute(statement, [{f"new_{name}": value for name, value in row.items()} for row in rows])
        case _:
            # All rows exist, so none is inserted. The driver sends one statement, instead of one for each row.
            upsert = mysql.insert(inbox_table)
            new = {name: upsert.inserted[name] for name in ("unseen", "unread", "version")}
            connection.execute(upsert.on_duplicate_key_update(new), rows)


def count_values(inboxes: Sequence[InboxCounts]) -> list[dict[str, object]]:
    """The columns of counts by name."""
    return [
        {"user_id": row.user_id, "unseen": row.unseen, "unread": row.unread, "version": row.version} for row in inboxes
    ]


def switched_off(connection: sa.Connection, users: Collection[str], method: str) -> set[tuple[str, str]]:
    """The pairs of user and category of what these users have switched off for a method."""
    query = sa.select(_preference.user_id, _preference.category).where(
        is_one_of(connection, _preference.user_id, sorted(users)),
        _preference.method == method,
        _preference.enabled.is_(sa.false()),
    )
    return {(row.user_id, row.category) for row in connection.execute(query)}


def deliveries_off(connection: sa.Connection, users: Collection[str]) -> set[tuple[str, str, str]]:
    """What these users have switched off: user, category and method."""
    query = sa.select(_preference.user_id, _preference.category, _preference.method).where(
        _preference.user_id.in_(sorted(users)), _preference.enabled.is_(sa.false())
    )
    return {(row.user_id, row.category, row.method) for row in connection.execute(query)}


def preferences(connection: sa.Connection, user: str) -> set[tuple[str, str]]:
    """The pairs of category and method that a user has switched off."""
    query = sa.select(_preference.category, _preference.method).where(
        _preference.user_id == user, _preference.enabled.is_(sa.false())
    )
    return {(row.category, row.method) for row in connection.execute(query)}


def write_preference(connection: sa.Connection, user: str, choice: Preference) -> None:
    """Replace a preference. The caller has locked the user's inbox."""
    row = {"user_id": user, "category": choice.category, "method": choice.method}
    conditions = [preference_table.c[name] == value for name, value in row.items()]
    connection.execute(preference_table.delete().where(*conditions))
    connection.execute(preference_table.insert(), [row | {"enabled": choice.enabled}])


def write_events(connection: sa.Connection, events: Sequence[InboxEvent], now_ms: int) -> None:
    """Write events to the outbox. The ids make each of them once, however often a relay publishes it."""
    insert_rows(connection, event_table, event_values(events, now_ms))


def event_values(events: Sequence[InboxEvent], now_ms: int) -> list[dict[str, Any]]:
    """The columns of events by name. Each gets its id."""
    return [
        {
            "id": new_id(now_ms),
            "channel": f"user:{event.user_id}",
            "event": event.event,
            "data": event.data,
            "at_ms": now_ms,
        }
        for event in events
    ]
