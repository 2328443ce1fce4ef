"""Ids of notifications in memory, and how much is kept."""

from __future__ import annotations

from tidings.publishers.memory.notifications import ID_S, IDS_MAX, STORED_MAX, MemoryNotifications
from tidings.receipts import NotificationReceipt
from tidings.wire.notification import Notification


def notification(id: str, user: str = "7") -> Notification:
    return Notification("order_shipped", user, "x", id, 1)


def test_an_id_counts_for_seven_days() -> None:
    now_s = [1_000.0]
    notifications = MemoryNotifications(now_s=lambda: now_s[0])
    assert notifications.add(notification("a")) == NotificationReceipt("a", "stored")
    now_s[0] += ID_S - 1
    assert notifications.add(notification("a")) == NotificationReceipt("a", "stored", duplicate=True)
    assert notifications.add(notification("a", "8")) == NotificationReceipt("a", "stored")
    now_s[0] += 1
    assert notifications.add(notification("a")) == NotificationReceipt("a", "stored")
    assert len(notifications.stored("7")) == 2


def test_memory_is_bounded() -> None:
    notifications = MemoryNotifications(now_s=lambda: 0.0)
    for number in range(IDS_MAX + 10):
        notifications.add(notification(str(number)))
    stored = notifications.stored("7")
    assert (len(stored), stored[-1].id) == (STORED_MAX, str(IDS_MAX + 9))
    assert notifications.add(notification(str(IDS_MAX))) == NotificationReceipt(str(IDS_MAX), "stored", duplicate=True)
    # The oldest ids are forgotten first.
    assert notifications.add(notification("0")) == NotificationReceipt("0", "stored")
