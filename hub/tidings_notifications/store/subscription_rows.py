"""Statements on push subscriptions."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import sqlalchemy as sa

from tidings_notifications.core.push_subscription import NewSubscription, StoredSubscription, hash_of
from tidings_notifications.store.tables import push_subscription_table

_USE_MS: Final = 3_600_000
_columns = push_subscription_table.c
_ROW = sa.select(_columns.id, _columns.user_id, _columns.endpoint, _columns.p256dh, _columns.auth, _columns.key_hash)


def by_id(connection: sa.Connection, id_: str) -> StoredSubscription | None:
    """The subscription with this id."""
    return _one(connection, _columns.id == id_)


def by_endpoint(connection: sa.Connection, endpoint_hash: str) -> StoredSubscription | None:
    """The subscription with this endpoint."""
    return _one(connection, _columns.endpoint_hash == endpoint_hash)


def of_user(connection: sa.Connection, user: str, now_ms: int) -> list[StoredSubscription]:
    """The subscriptions of a user that have not expired, the last used first."""
    is_alive = sa.or_(_columns.expires_ms.is_(None), _columns.expires_ms > now_ms)
    query = _ROW.where(_columns.user_id == user, is_alive).order_by(_columns.used_ms.desc(), _columns.id)
    return [StoredSubscription(*row) for row in connection.execute(query)]


def of_users(connection: sa.Connection, users: Collection[str], now_ms: int) -> dict[str, list[StoredSubscription]]:
    """The subscriptions of some users that have not expired."""
    by_user: dict[str, list[StoredSubscription]] = {}
    is_alive = sa.or_(_columns.expires_ms.is_(None), _columns.expires_ms > now_ms)
    query = _ROW.where(_columns.user_id.in_(sorted(users)), is_alive).order_by(_columns.id)
    for row in connection.execute(query):
        by_user.setdefault(row.user_id, []).append(StoredSubscription(*row))
    return by_user


def subscribed(connection: sa.Connection, users: Collection[str]) -> set[str]:
    """Those of some users who have a subscription."""
    query = sa.select(_columns.user_id).where(_columns.user_id.in_(sorted(users))).distinct()
    return set(connection.scalars(query))


def note_use(connection: sa.Connection, ids: Collection[str], now_ms: int) -> None:
    """Note that these subscriptions were used, if that was not noted in the last hour."""
    statement = push_subscription_table.update().where(
        _columns.id.in_(sorted(ids)), _columns.used_ms < now_ms - _USE_MS
    )
    connection.execute(statement.values(used_ms=now_ms))


def insert(connection: sa.Connection, row: StoredSubscription, new: NewSubscription, now_ms: int) -> None:
    """Insert a subscription."""
    values = _values(new, now_ms) | {"id": row.id, "user_id": row.user_id, "key_hash": row.key_hash}
    connection.execute(push_subscription_table.insert(), [values | {"created_ms": now_ms}])


def update(connection: sa.Connection, id_: str, new: NewSubscription, key_hash: str, now_ms: int) -> None:
    """Replace what a browser gave us."""
    values = _values(new, now_ms) | {"key_hash": key_hash}
    connection.execute(push_subscription_table.update().where(_columns.id == id_).values(values))


def delete(connection: sa.Connection, *, user: str, endpoint_hash: str) -> int:
    """Delete the subscription of a user with this endpoint. Returns how many there were."""
    statement = push_subscription_table.delete().where(
        _columns.endpoint_hash == endpoint_hash, _columns.user_id == user
    )
    return connection.execute(statement).rowcount


def delete_endpoint(connection: sa.Connection, row: StoredSubscription) -> None:
    """Delete a subscription if it still has the endpoint of `row`."""
    connection.execute(
        push_subscription_table.delete().where(_columns.id == row.id, _columns.endpoint_hash == hash_of(row.endpoint))
    )


def delete_foreign(connection: sa.Connection, endpoint_hash: str, *, except_id: str) -> None:
    """Delete the subscription with this endpoint, unless it has this id."""
    connection.execute(
        push_subscription_table.delete().where(_columns.endpoint_hash == endpoint_hash, _columns.id != except_id)
    )


def delete_excess(connection: sa.Connection, user: str, *, keep: int, now_ms: int) -> int:
    """Delete expired subscriptions of a user, and those unused for longest beyond `keep`. Returns how many these were.

    MySQL cannot delete from a table that the same statement selects from.
    """
    connection.execute(push_subscription_table.delete().where(_columns.user_id == user, _columns.expires_ms <= now_ms))
    query = (
        sa.select(_columns.id)
        .where(_columns.user_id == user)
        .order_by(_columns.used_ms.desc(), _columns.created_ms.desc(), _columns.id)
    )
    excess = list(connection.scalars(query))[keep:]
    if excess:
        connection.execute(push_subscription_table.delete().where(_columns.id.in_(excess)))
    return len(excess)


def _one(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> StoredSubscription | None:
    row = connection.execute(_ROW.where(condition)).one_or_none()
    return None if row is None else StoredSubscription(*row)


def _values(new: NewSubscription, now_ms: int) -> dict[str, object]:
    return {
        "endpoint": new.endpoint,
        "endpoint_hash": new.endpoint_hash,
        "p256dh": new.p256dh,
        "auth": new.auth,
        "used_ms": now_ms,
        "expires_ms": new.expires_ms,
    }
