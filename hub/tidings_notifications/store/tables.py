"""The tables. A change here needs a migration (`migrations/versions`); a test compares the two."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from tidings.contrib.outbox import outbox_table
from tidings_notifications.core.notification import Place

METADATA = sa.MetaData()
# Not the default name: an application may have an outbox of its own in the same database.
OUTBOX = "tidings_notification_outbox"
USER_MAX = 195

# MySQL compares text binary only if the table says so.
_EXACT: dict[str, Any] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}


def id_type() -> sa.Uuid[str]:
    """A UUID as text in Python. It sorts as text in every database, which not every MariaDB does by itself."""
    return sa.Uuid(as_uuid=False).with_variant(sa.Uuid(as_uuid=False, native_uuid=False), "mysql", "mariadb")


def name_type(length: int) -> sa.String:
    """Text that sorts by its bytes, as in Python."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


class PlaceType(sa.TypeDecorator[Place]):
    """A `Place` as a number: not every driver takes an Enum."""

    impl = sa.SmallInteger
    cache_ok = True

    def process_bind_param(self, value: Place | None, dialect: sa.Dialect) -> int | None:
        """The number of a place."""
        return None if value is None else int(value)

    def process_result_value(self, value: Any | None, dialect: sa.Dialect) -> Place | None:
        """The place of a number."""
        return None if value is None else Place(value)


notification_table = sa.Table(
    "tidings_notification",
    METADATA,
    sa.Column("id", id_type(), primary_key=True),
    sa.Column("user_id", name_type(USER_MAX), nullable=False),
    sa.Column("place", PlaceType(), nullable=False),
    sa.Column("category", name_type(64), nullable=False),
    sa.Column("title", sa.String(200), nullable=False),
    sa.Column("created_ms", sa.BigInteger(), nullable=False),
    sa.Column("caller_id", name_type(64)),
    sa.Column("idempotency_key", id_type()),
    sa.Column("body", sa.String(2000)),
    sa.Column("url", sa.String(2048)),
    sa.Column("icon", sa.String(2048)),
    sa.Column("data", sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")),
    sa.Column("group_key", name_type(128)),
    sa.Column("collapse_key", id_type()),
    sa.Column("count", sa.Integer(), nullable=False),
    sa.Column("due_ms", sa.BigInteger()),
    sa.Column("expires_ms", sa.BigInteger()),
    sa.Column("sweep_ms", sa.BigInteger()),
    sa.Column("seen_ms", sa.BigInteger()),
    sa.Column("read_ms", sa.BigInteger()),
    sa.Column("archived_ms", sa.BigInteger()),
    sa.Column("deleted_ms", sa.BigInteger()),
    **_EXACT,
)
_columns = notification_table.c
# A page: the rows of one user in one place, by id. With `read_ms`, a page of unread ones visits no other rows.
sa.Index("tidings_notification_page", _columns.user_id, _columns.place, _columns.id, _columns.read_ms)
# Few rows have these values. MySQL has no partial indexes.
for _index, _indexed, _unique in (
    ("tidings_notification_once", (_columns.idempotency_key,), True),
    ("tidings_notification_collapse", (_columns.collapse_key, _columns.read_ms), False),
    ("tidings_notification_sweep", (_columns.sweep_ms,), False),
):
    _is_set = _indexed[0].is_not(None)
    sa.Index(_index, *_indexed, unique=_unique, postgresql_where=_is_set, sqlite_where=_is_set)

inbox_table = sa.Table(
    "tidings_inbox",
    METADATA,
    sa.Column("user_id", name_type(USER_MAX), primary_key=True),
    sa.Column("unseen", sa.Integer(), nullable=False),
    sa.Column("unread", sa.Integer(), nullable=False),
    sa.Column("version", sa.BigInteger(), nullable=False),
    **_EXACT,
)

# A row is a choice that differs from the default, which is on.
preference_table = sa.Table(
    "tidings_preference",
    METADATA,
    sa.Column("user_id", name_type(USER_MAX), primary_key=True),
    sa.Column("category", name_type(64), primary_key=True),
    sa.Column("method", name_type(16), primary_key=True),
    sa.Column("enabled", sa.Boolean(), nullable=False),
    **_EXACT,
)

push_subscription_table = sa.Table(
    "tidings_push_subscription",
    METADATA,
    sa.Column("id", id_type(), primary_key=True),
    sa.Column("user_id", name_type(USER_MAX), nullable=False),
    sa.Column("endpoint", sa.String(2048), nullable=False),
    sa.Column("endpoint_hash", name_type(43), nullable=False),
    sa.Column("p256dh", sa.String(87), nullable=False),
    sa.Column("auth", sa.String(22), nullable=False),
    sa.Column("key_hash", name_type(43), nullable=False),
    sa.Column("created_ms", sa.BigInteger(), nullable=False),
    sa.Column("used_ms", sa.BigInteger(), nullable=False),
    sa.Column("expires_ms", sa.BigInteger()),
    **_EXACT,
)
sa.Index("tidings_push_subscription_endpoint", push_subscription_table.c.endpoint_hash, unique=True)
sa.Index("tidings_push_subscription_user", push_subscription_table.c.user_id, push_subscription_table.c.used_ms)

# A row is a delivery that has not ended. `due_ms` of a claimed one is the time at which its claim ends.
delivery_table = sa.Table(
    "tidings_delivery",
    METADATA,
    sa.Column("id", id_type(), primary_key=True),
    sa.Column("notification_id", id_type(), nullable=False),
    sa.Column("method", name_type(16), nullable=False),
    sa.Column("subscription_id", id_type()),
    sa.Column("due_ms", sa.BigInteger(), nullable=False),
    sa.Column("attempts", sa.Integer(), nullable=False),
    sa.Column("claim", id_type()),
    sa.Column("last_error", sa.String(200)),
    **_EXACT,
)
sa.Index("tidings_delivery_due", delivery_table.c.method, delivery_table.c.due_ms)
sa.Index("tidings_delivery_of", delivery_table.c.notification_id)

event_table = outbox_table(METADATA, OUTBOX)
