"""The first tables: notifications, inboxes, preferences and the outbox of events."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision: str | None = None
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_EXACT = {"charset": "utf8mb4", "collation": "utf8mb4_bin"}
_TABLE = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}


def upgrade() -> None:
    """Create the tables. MySQL commits each one, so an interrupted migration begins with the first missing one."""
    _create_notification()
    op.create_table(
        "tidings_inbox",
        sa.Column("user_id", _name(195), primary_key=True),
        sa.Column("unseen", sa.Integer(), nullable=False),
        sa.Column("unread", sa.Integer(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        if_not_exists=True,
        **_TABLE,
    )
    op.create_table(
        "tidings_preference",
        sa.Column("user_id", _name(195), primary_key=True),
        sa.Column("category", _name(64), primary_key=True),
        sa.Column("method", _name(16), primary_key=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        if_not_exists=True,
        **_TABLE,
    )
    _create_outbox()


def _create_notification() -> None:
    op.create_table(
        "tidings_notification",
        sa.Column("id", _id(), primary_key=True),
        sa.Column("user_id", _name(195), nullable=False),
        sa.Column("place", sa.SmallInteger(), nullable=False),
        sa.Column("category", _name(64), nullable=False),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("caller_id", _name(64)),
        sa.Column("idempotency_key", _id()),
        sa.Column("body", sa.String(2000)),
        sa.Column("url", sa.String(2048)),
        sa.Column("icon", sa.String(2048)),
        sa.Column("data", sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")),
        sa.Column("group_key", _name(128)),
        sa.Column("collapse_key", _id()),
        sa.Column("count", sa.Integer(), nullable=False),
        *(
            sa.Column(name, sa.BigInteger())
            for name in ("due_ms", "expires_ms", "sweep_ms", "seen_ms", "read_ms", "archived_ms", "deleted_ms")
        ),
        if_not_exists=True,
        **_TABLE,
    )
    _create_index("page", "user_id", "place", "id")
    _create_index("once", "idempotency_key", unique=True, where_set=True)
    _create_index("collapse", "collapse_key", "read_ms", where_set=True)
    _create_index("sweep", "sweep_ms", where_set=True)


def _create_outbox() -> None:
    long = sa.Text().with_variant(mysql.LONGTEXT(**_EXACT), "mysql", "mariadb")
    op.create_table(
        "tidings_notification_outbox",
        sa.Column("row_no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("id", _outbox_text(64), nullable=False),
        sa.Column("channel", _outbox_text(200), nullable=False),
        sa.Column("event", _outbox_text(128), nullable=False),
        sa.Column("data", long, nullable=False),
        sa.Column("at_ms", sa.BigInteger()),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("failed", sa.Text()),
        sqlite_autoincrement=True,
        mysql_engine="InnoDB",
        mariadb_engine="InnoDB",
        if_not_exists=True,
    )


def _id() -> sa.Uuid[str]:
    return sa.Uuid(as_uuid=False).with_variant(sa.Uuid(as_uuid=False, native_uuid=False), "mysql", "mariadb")


def _name(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def _outbox_text(length: int) -> sa.String:
    return sa.String(length).with_variant(mysql.VARCHAR(length, **_EXACT), "mysql", "mariadb")


def _create_index(name: str, *columns: str, unique: bool = False, where_set: bool = False) -> None:
    # Not `if_not_exists`, which MySQL does not have.
    existing = sa.inspect(op.get_bind()).get_indexes("tidings_notification")
    full_name = f"tidings_notification_{name}"
    if full_name in {index["name"] for index in existing}:
        return
    is_set = sa.column(columns[0]).is_not(None) if where_set else None
    op.create_index(
        full_name, "tidings_notification", list(columns), unique=unique, postgresql_where=is_set, sqlite_where=is_set
    )
