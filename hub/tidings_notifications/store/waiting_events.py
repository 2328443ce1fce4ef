"""The events that the relay has not published yet."""

from __future__ import annotations

import sqlalchemy as sa

from tidings_notifications.store.tables import event_table

_columns = event_table.c
_OLDEST = sa.select(_columns.at_ms).where(_columns.failed.is_(None)).order_by(_columns.row_no).limit(1)


def oldest_event_ms(connection: sa.Connection) -> int | None:
    """When the first waiting event was written, in unix milliseconds; None if no event waits."""
    at_ms = connection.scalar(_OLDEST)
    return None if at_ms is None else int(at_ms)
