"""A batch in two statements of PostgreSQL, without a transaction around them: optimistic concurrency control.

The first statement reads what the batch depends on. The second one writes everything, but only if no inbox has another
version than the one that was read. Every change of an inbox takes a new version under the lock of its row, so what was
read still holds. Locks before the first read, and statements one by one, would be four times as many round trips.

The first statement can be left out for users whose counts are known from an earlier batch. Then the second one also
checks what else was assumed: that the store has none of the idempotency keys, and that no user has switched it off.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from tidings.contrib.outbox.driver_statement import DriverStatement
from tidings.contrib.outbox.written_rows import WrittenRow
from tidings_notifications.core.batch import Collapsible
from tidings_notifications.core.counts import InboxCounts
from tidings_notifications.core.delivery_plan import DeliveryRow
from tidings_notifications.core.events import InboxEvent
from tidings_notifications.core.notification import IN_APP, Place, StoredNotification
from tidings_notifications.store import delivery_rows, notification_rows
from tidings_notifications.store.bulk import rows_from_json, to_json
from tidings_notifications.store.failures import commit_error
from tidings_notifications.store.inbox_rows import count_values, event_values
from tidings_notifications.store.tables import (
    delivery_table,
    event_table,
    inbox_table,
    notification_table,
    preference_table,
    push_subscription_table,
)

_inbox, _n, _preference, _delivery = inbox_table.c, notification_table.c, preference_table.c, delivery_table.c
_event = event_table.c
# So many waiting events are read. If there are more, the relay has a backlog.
EVENTS_MAX = 100
_COUNTS = ("user_id", "unseen", "unread", "version")
_EVENT = ("id", "channel", "event", "data", "at_ms")
_VERSION_READ = "version_read"
_IS_OFF = (_preference.method == IN_APP) & _preference.enabled.is_(sa.false())


@dataclass(frozen=True, slots=True)
class BatchState:
    """What a batch depends on, of one moment. See the fields of `BatchPlan`. `subscribed`: users who get pushes.

    `waiting_ms`: when the deliveries of collapsible notifications are due, by notification.
    `waiting_channels`: those of the events that wait for the relay; None: there are so many that not all were read.
    """

    inboxes: dict[str, InboxCounts]
    stored_keys: dict[str, tuple[str, int]]
    collapsible: list[Collapsible]
    switched_off: set[tuple[str, str]]
    subscribed: set[str]
    waiting_ms: dict[str, int]
    waiting_channels: set[str] | None = None


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What a batch assumes that was planned without a read. `categories`: those that users can switch off."""

    idempotency_keys: Sequence[str] = ()
    categories: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class NewRows:
    """What a batch writes. `inboxes`: the counts after it; `versions_read`: the versions before it, by user.

    `deleted`: ids of notifications that others replace.
    """

    inboxes: Sequence[InboxCounts]
    versions_read: dict[str, int]
    deleted: Sequence[str]
    notifications: Sequence[StoredNotification]
    deliveries: Sequence[DeliveryRow]
    events: Sequence[InboxEvent]

    @property
    def versions(self) -> dict[str, int]:
        """The versions of the changed inboxes, by user."""
        return {inbox.user_id: inbox.version for inbox in self.inboxes}


def read_state(
    connection: sa.Connection, users: Collection[str], idempotency_keys: Sequence[str], collapse_keys: Sequence[str]
) -> BatchState:
    """What a batch for these users depends on."""
    values: dict[str, object] = {
        "users": sorted(users),
        "idempotency_keys": idempotency_keys,
        "collapse_keys": collapse_keys,
    }
    values["events_max"] = EVENTS_MAX
    inboxes, keys, collapsible, off, subscribed, waiting, channels = _read().execute(connection, values).fetchone()
    return BatchState(
        inboxes={row[0]: InboxCounts(*row) for row in inboxes or ()},
        stored_keys={key: (id_, created_ms) for key, id_, created_ms in keys or ()},
        collapsible=[
            Collapsible(id_, user, key, Place(place), *rest) for id_, user, key, place, *rest in collapsible or ()
        ],
        switched_off={(user, category) for user, category in off or ()},
        subscribed=set(subscribed or ()),
        waiting_ms=delivery_rows.earliest_due_ms(waiting or ()),
        waiting_channels=set(channels or ()) if len(channels or ()) < EVENTS_MAX else None,
    )


def write(
    connection: sa.Connection, rows: NewRows, now_ms: int, assumed: Assumptions | None = None
) -> list[WrittenRow] | None:
    """Write a batch. Returns its events, in order.

    None: an inbox has changed, or what is assumed does not hold, and nothing was written.

    Raises:
        IntegrityError: another transaction has stored one of the idempotency keys, and nothing was written.
        TimedOut: the connection broke, and the batch may be written.
    """
    counts = [
        row | {_VERSION_READ: rows.versions_read[inbox.user_id]}
        for row, inbox in zip(count_values(rows.inboxes), rows.inboxes, strict=True)
    ]
    events = event_values(rows.events, now_ms)
    values = {
        "inboxes": to_json(counts),
        "inbox_count": len(counts),
        "deleted": rows.deleted,
        "now_ms": now_ms,
        "notifications": to_json(notification_rows.values_of(rows.notifications)),
        "deliveries": to_json(delivery_rows.values_of(rows.deliveries)),
        "events": to_json(events),
        "absent_keys": [] if assumed is None else list(assumed.idempotency_keys),
        "users": [] if assumed is None else list(rows.versions_read),
        "categories": [] if assumed is None else list(assumed.categories),
    }
    statement = _write(has_deleted=bool(rows.deleted), has_deliveries=bool(rows.deliveries))
    try:
        is_written, row_nos = statement.execute(connection, values).fetchone()
    except sa.exc.DBAPIError as error:
        if error.connection_invalidated:
            raise commit_error(error) from error
        raise
    return [WrittenRow(row_nos[event["id"]], **event) for event in events] if is_written else None


def add_inboxes(connection: sa.Connection, users: Collection[str]) -> None:
    """Insert the rows of users that have none, in one statement."""
    _add_inboxes().execute(
        connection, {"inboxes": to_json(count_values([InboxCounts(user) for user in sorted(users)]))}
    )


@cache
def _add_inboxes() -> DriverStatement:
    rows = rows_from_json(inbox_table, _COUNTS, parameter="inboxes")
    insert = postgresql.insert(inbox_table).from_select(_COUNTS, sa.select(*rows.c))
    return DriverStatement(insert.on_conflict_do_nothing())


@cache
def _read() -> DriverStatement:
    users = sa.bindparam("users", type_=postgresql.ARRAY(sa.Text))
    subscriber = push_subscription_table.c.user_id
    is_collapsible = (_n.collapse_key == sa.any_(_uuids_of("collapse_keys"))) & notification_rows.IS_OPEN
    waiting = sa.select(_event.channel).where(_event.failed.is_(None)).order_by(_event.row_no)
    first_events = waiting.limit(sa.bindparam("events_max", type_=sa.Integer)).subquery()
    query = sa.select(
        _json_of(*(_inbox[name] for name in _COUNTS), where=_inbox.user_id == sa.any_(users)),
        _json_of(
            *(_n.idempotency_key, _n.id, _n.created_ms),
            where=_n.idempotency_key == sa.any_(_uuids_of("idempotency_keys")),
        ),
        _json_of(*notification_rows.COLLAPSIBLE, where=is_collapsible, order=_n.id),
        _json_of(
            *(_preference.user_id, _preference.category),
            where=(_preference.user_id == sa.any_(users)) & _IS_OFF,
        ),
        sa.select(sa.func.json_agg(subscriber, type_=sa.JSON)).where(subscriber == sa.any_(users)).scalar_subquery(),
        _json_of(
            *(_delivery.notification_id, _delivery.due_ms),
            where=_delivery.notification_id.in_(sa.select(_n.id).where(is_collapsible)) & delivery_rows.IS_WAITING,
        ),
        sa.select(sa.func.json_agg(first_events.c.channel, type_=sa.JSON)).scalar_subquery(),
    )
    return DriverStatement(query)


def _json_of(*columns: sa.Column[Any], where: sa.ColumnElement[bool], order: Any = None) -> Any:
    """Rows as a JSON array of arrays, in one value. NULL: there are none."""
    row = sa.func.json_build_array(*columns)
    rows = postgresql.aggregate_order_by(row, order) if order is not None else row
    return sa.select(sa.func.json_agg(rows, type_=sa.JSON)).where(where).scalar_subquery()


@cache
def _write(*, has_deleted: bool, has_deliveries: bool) -> DriverStatement:
    """The statement that writes a batch. PostgreSQL spends time on each part, also if that has no rows."""
    version_read = sa.column(_VERSION_READ, sa.BigInteger)
    new = rows_from_json(inbox_table, _COUNTS, version_read, parameter="inboxes")
    # In sorted order, as everywhere, so that two transactions do not wait for each other. A row that changes while this
    # statement waits for its lock is compared again.
    locked = (
        sa.select(_inbox.user_id)
        .join(new, _inbox.user_id == new.c.user_id)
        .where(_inbox.version == new.c[_VERSION_READ])
        .order_by(_inbox.user_id)
        .with_for_update(of=inbox_table)
        .cte("locked")
    )
    count = sa.select(sa.func.count()).select_from(locked).scalar_subquery()
    is_unchanged = (count == sa.bindparam("inbox_count", type_=sa.Integer)) & _holds()
    check = sa.select(is_unchanged.label("is_current")).cte("check_of_all")
    is_current = sa.select(check.c.is_current).scalar_subquery()

    def insert(table: sa.Table, names: Sequence[str], parameter: str) -> Any:
        rows = rows_from_json(table, names, parameter=parameter)
        return table.insert().from_select(names, sa.select(*rows.c).where(is_current))

    counts = {name: new.c[name] for name in _COUNTS if name != "user_id"}
    update = inbox_table.update().where(_inbox.user_id == new.c.user_id, is_current).values(counts)
    deleted = _uuids_of("deleted")
    deletion = notification_rows.deletion(sa.bindparam("now_ms", type_=sa.BigInteger))
    delete = notification_table.update().where(_n.id == sa.any_(deleted), is_current).values(deletion)
    parts = [
        update.cte("update_inboxes"),
        insert(notification_table, notification_rows.NAMES, "notifications").cte("insert_notifications"),
    ]
    if has_deleted:
        parts.append(delete.cte("delete_replaced"))
    if has_deliveries:
        parts.append(insert(delivery_table, delivery_rows.NAMES, "deliveries").cte("insert_deliveries"))
    events = insert(event_table, _EVENT, "events").returning(_event.id, _event.row_no).cte("insert_events")
    row_nos = sa.select(sa.func.json_object_agg(events.c.id, events.c.row_no, type_=sa.JSON)).scalar_subquery()
    return DriverStatement(sa.select(check.c.is_current, row_nos).add_cte(*parts))


def _holds() -> sa.ColumnElement[bool]:
    """Whether what is `Assumptions` holds. Its parameters are empty if nothing is."""
    is_stored = sa.select(sa.literal(1)).where(_n.idempotency_key == sa.any_(_uuids_of("absent_keys"))).exists()
    users, categories = (sa.bindparam(name, type_=postgresql.ARRAY(sa.Text)) for name in ("users", "categories"))
    is_off = (
        sa.select(sa.literal(1))
        .where(_preference.user_id == sa.any_(users), _preference.category == sa.any_(categories), _IS_OFF)
        .exists()
    )
    return ~is_stored & ~is_off


def _uuids_of(parameter: str) -> sa.ColumnElement[Any]:
    """A parameter that is a list of ids as text."""
    return sa.cast(sa.bindparam(parameter, type_=postgresql.ARRAY(sa.Text)), postgresql.ARRAY(_n.id.type))
