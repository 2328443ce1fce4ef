"""The index of pages has `read_ms`, so that a page of unread notifications visits no others."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision: str | None = "0003"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_TABLE = "tidings_notification"
_INDEX = "tidings_notification_page"
_COLUMNS = ["user_id", "place", "id", "read_ms"]


def upgrade() -> None:
    """Replace the index, unless an interrupted migration has done so."""
    existing = {index["name"]: index["column_names"] for index in sa.inspect(op.get_bind()).get_indexes(_TABLE)}
    if existing.get(_INDEX) == _COLUMNS:
        return
    if _INDEX in existing:
        op.drop_index(_INDEX, _TABLE)
    op.create_index(_INDEX, _TABLE, _COLUMNS)
