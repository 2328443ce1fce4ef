"""What the sweep does with a notification whose time has come."""

from __future__ import annotations

from enum import Enum

from tidings_notifications.core.batch import CALLER_ID_MS
from tidings_notifications.core.notification import Place, StoredNotification

DAY_MS = 86_400_000


class Sweep(Enum):
    """What to do with a row."""

    NOTHING = "nothing"
    # A digest: put it into the inbox.
    DELIVER = "deliver"
    # It leaves the inbox. Its row remains as long as its caller's id counts.
    DELETE = "delete"
    # Its row goes.
    PURGE = "purge"


def sweep_of(row: StoredNotification, *, now_ms: int, keep_ms: int) -> Sweep:
    """What to do with a row now. `keep_ms`: how long a notification remains."""
    is_old = row.created_ms <= now_ms - keep_ms
    is_expired = is_old or (row.expires_ms is not None and row.expires_ms <= now_ms)
    if row.place == Place.DELETED or is_expired:
        if row.created_ms <= now_ms - CALLER_ID_MS:
            return Sweep.PURGE
        return Sweep.NOTHING if row.place == Place.DELETED else Sweep.DELETE
    if row.place == Place.WAITING and row.due_ms is not None and row.due_ms <= now_ms:
        return Sweep.DELIVER
    return Sweep.NOTHING
