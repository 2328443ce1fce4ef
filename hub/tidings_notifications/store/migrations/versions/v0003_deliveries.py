"""The table of deliveries."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = "0002"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_NAME = "tidings_delivery"
_TABLE = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}


def upgrade() -> None:
    """Create the table, and its indexes if an interrupted migration has not created them."""
    op.create_table(
        _NAME,
        sa.Column("id", _id(), primary_key=True),
        sa.Column("notification_id", _id(), nullable=False),
        sa.Column("method", _name(16), nullable=False),
        sa.Column("subscription_id", _id()),
        sa.Column("due_ms", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("claim", _id()),
        sa.Column("last_error", sa.String(200)),
        if_not_exists=True,
        **_TABLE,
    )
    # Not `if_not_exists`, which MySQL does not have.
    existing = {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(_NAME)}
    for name, columns in ((f"{_NAME}_due", ["method", "due_ms"]), (f"{_NAME}_of", ["notification_id"])):
        if name not in existing:
            op.create_index(name, _NAME, columns)


def _id() -> sa.Uuid[str]:
    return sa.Uuid(as_uuid=False).with_variant(sa.Uuid(as_uuid=False, native_uuid=False), "mysql", "mariadb")


def _name(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")
