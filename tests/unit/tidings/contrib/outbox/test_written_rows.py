"""Rows that are published without a claim are the same publications as those of a relay."""

from __future__ import annotations

import pytest

from tidings.contrib.outbox.rows import Row, item_of
from tidings.contrib.outbox.written_rows import WrittenRow, WrittenRows, are_of_different_channels
from tidings.publishers.base import OutgoingPublication, PublishResult
from tidings.publishers.memory.publisher import MemoryPublisher
from tidings.publishers.memory.store import MemoryStore
from tidings.wire.payload import encode_data
from tidings_notifications.core.counts import InboxCounts
from tidings_notifications.core.events import notification_event
from tidings_notifications.core.notification import Place, StoredNotification

TEXTS = ["plain", 'quotes " and \\', "línea\u2028 \u007f 🎉", "tab\tand\nline", "</script>"]


class Recorder(MemoryPublisher):
    """The memory publisher, and what it was given."""

    def __init__(self) -> None:
        store = MemoryStore()
        store.write_rules({"user": (10, 600)})
        super().__init__(store=store)
        self.items: list[OutgoingPublication] = []

    def publish(self, items: list[OutgoingPublication], *, timeout_s: float) -> list[PublishResult]:  # type: ignore[override]
        self.items += items
        return super().publish(items, timeout_s=timeout_s)


@pytest.mark.parametrize("text", TEXTS)
def test_publication_is_the_one_that_a_relay_makes_of_the_row(text: str) -> None:
    stored = StoredNotification("id", "7", Place.INBOX, "order", text, 1, body=text, url="/é", count=1)
    stored.data = encode_data({text: [1.5, None, True, text]}).decode()
    event = notification_event(stored, InboxCounts("7"), max_bytes=65_536)
    row = WrittenRow(1, "abc", "user:7", event.event, event.data, 1_750_000_000_000)
    publisher = Recorder()
    assert len(WrittenRows(publisher, keep_s=300, timeout_s=5).publish([row], float("inf"))) == 1
    same = Row(1, row.id, row.channel, row.event, row.data, row.at_ms)
    assert publisher.items == [item_of(same, keep_s=300, now_ms=5, publication_max_bytes=65_536, inbox_events=True)]


def test_invalid_channel_is_left_to_the_relay() -> None:
    publisher = Recorder()
    rows = WrittenRows(publisher, keep_s=300, timeout_s=5)
    assert rows.publish([WrittenRow(1, "abc", "user:a b", "tidings:inbox", "{}", 1)], float("inf")) == []
    assert publisher.items == []
    assert rows.left_s() is None


def test_two_rows_of_a_channel_are_seen() -> None:
    rows = [WrittenRow(number, "abc", f"user:{number % 2}", "tidings:inbox", "{}", 1) for number in range(3)]
    assert are_of_different_channels(rows[:2])
    assert not are_of_different_channels(rows)
