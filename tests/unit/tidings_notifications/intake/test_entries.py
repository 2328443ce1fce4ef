from __future__ import annotations

import json

import pytest

from tidings.errors import TidingsError
from tidings.wire.notification import Notification
from tidings_notifications.intake.entries import ALONE_FROM, DELIVERIES_MAX, group_entries, read_entry
from tidings_notifications.intake.stream import Entry

GOOD = json.dumps({"category": "mention", "user": "7", "title": "T", "id": "a", "at_ms": 1}).encode()
MAX_BYTES = 65_536


def entry(number: int, deliveries: int = 0, body: bytes | None = GOOD) -> Entry:
    return Entry(b"%d-0" % number, body, deliveries)


def test_entry_holds_a_notification() -> None:
    notification = read_entry(entry(1), max_bytes=MAX_BYTES)
    assert isinstance(notification, Notification)
    assert (notification.user, notification.id) == ("7", "a")


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (entry(1, body=None), "bad_request"),
        (entry(1, body=b"{"), "bad_data"),
        (entry(1, body=b"[]"), "bad_request"),
        (entry(1, DELIVERIES_MAX + 1), "internal"),
    ],
)
def test_entry_that_can_never_be_stored_has_its_error(bad: Entry, code: str) -> None:
    error = read_entry(bad, max_bytes=MAX_BYTES)
    assert isinstance(error, TidingsError)
    assert error.code.name == code


def test_entry_that_was_delivered_often_is_still_read() -> None:
    assert isinstance(read_entry(entry(1, DELIVERIES_MAX), max_bytes=MAX_BYTES), Notification)


def test_entries_that_were_delivered_often_are_stored_alone_and_in_order() -> None:
    entries = [entry(1), entry(2, 1), entry(3, ALONE_FROM), entry(4, ALONE_FROM), entry(5), entry(6, ALONE_FROM - 1)]
    groups = group_entries(entries)
    assert [len(group) for group in groups] == [2, 1, 1, 2]
    assert [item for group in groups for item in group] == entries
    assert group_entries([]) == []
