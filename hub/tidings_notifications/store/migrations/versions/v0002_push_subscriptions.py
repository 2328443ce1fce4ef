"""The table of push subscriptions."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_NAME = "tidings_push_subscription"
_TABLE = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}


def upgrade() -> None:
    """Create the table, and its index if an interrupted migration has not created it."""
    op.create_table(
        _NAME,
        sa.Column("id", _id(), primary_key=True),
        sa.Column("user_id", _name(195), nullable=False),
        sa.Column("endpoint", sa.String(2048), nullable=False),
        sa.Column("endpoint_hash", _name(43), nullable=False),
        sa.Column("p256dh", sa.String(87), nullable=False),
        sa.Column("auth", sa.String(22), nullable=False),
        sa.Column("key_hash", _name(43), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("used_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger()),
        if_not_exists=True,
        **_TABLE,
    )
    # Not `if_not_exists`, which MySQL does not have.
    existing = {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(_NAME)}
    for name, columns, is_unique in (
        (f"{_NAME}_endpoint", ["endpoint_hash"], True),
        (f"{_NAME}_user", ["user_id", "used_ms"], False),
    ):
        if name not in existing:
            op.create_index(name, _NAME, columns, unique=is_unique)


def _id() -> sa.Uuid[str]:
    return sa.Uuid(as_uuid=False).with_variant(sa.Uuid(as_uuid=False, native_uuid=False), "mysql", "mariadb")


def _name(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")
