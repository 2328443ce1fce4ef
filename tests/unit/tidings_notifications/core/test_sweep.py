from __future__ import annotations

from typing import Any

import pytest

from tidings_notifications.core.batch import CALLER_ID_MS
from tidings_notifications.core.notification import Place, StoredNotification
from tidings_notifications.core.sweep import Sweep, sweep_of

KEEP_MS = 2 * CALLER_ID_MS


@pytest.mark.parametrize(
    ("place", "fields", "now_ms", "expected"),
    [
        (Place.INBOX, {}, KEEP_MS - 1, Sweep.NOTHING),
        (Place.ARCHIVED, {}, KEEP_MS, Sweep.PURGE),
        (Place.INBOX, {"expires_ms": 5}, 4, Sweep.NOTHING),
        (Place.INBOX, {"expires_ms": 5}, 5, Sweep.DELETE),
        (Place.INBOX, {"expires_ms": 5}, CALLER_ID_MS, Sweep.PURGE),
        (Place.WAITING, {"due_ms": 5}, 4, Sweep.NOTHING),
        (Place.WAITING, {"due_ms": 5}, 5, Sweep.DELIVER),
        (Place.WAITING, {"due_ms": 5, "expires_ms": 5}, 5, Sweep.DELETE),
        (Place.DELETED, {}, CALLER_ID_MS - 1, Sweep.NOTHING),
        (Place.DELETED, {}, CALLER_ID_MS, Sweep.PURGE),
    ],
)
def test_what_happens_to_a_row(place: Place, fields: dict[str, Any], now_ms: int, expected: Sweep) -> None:
    row = StoredNotification("id", "7", place, "order", "x", 0, **fields)
    assert sweep_of(row, now_ms=now_ms, keep_ms=KEEP_MS) is expected
