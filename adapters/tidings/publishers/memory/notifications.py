"""Notifications in this process's memory, for tests: what was handed over, without inboxes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

from tidings.errors import UnknownCategory
from tidings.publishers.base import NotifyResult
from tidings.receipts import NotificationReceipt
from tidings.wire.notification import Notification

# As the notification service: an id counts for so long, for its user.
ID_S = 7 * 86_400
# The oldest ones are discarded.
STORED_MAX = 1_000
IDS_MAX = 100_000


class MemoryNotifications:
    """The latest notifications. Threads may share it."""

    def __init__(self, *, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self._stored: deque[Notification] = deque(maxlen=STORED_MAX)
        # When each user and id expire, in this order.
        self._ids: dict[tuple[str, str], float] = {}
        self._categories: frozenset[str] | None = None
        self._listeners: list[Callable[[Notification], None]] = []

    def set_categories(self, categories: Iterable[str]) -> None:
        """Reject all other categories from now on."""
        self._categories = frozenset(categories)

    def add_listener(self, listener: Callable[[Notification], None]) -> None:
        """Call `listener` with every new notification. It must be quick and must not call this object."""
        with self._lock:
            self._listeners.append(listener)

    def add(self, notification: Notification) -> NotifyResult:
        """Store one. For an id that its user had before, only the receipt is returned."""
        if self._categories is not None and notification.category not in self._categories:
            return UnknownCategory(f"no category {notification.category!r}; there are {sorted(self._categories)}")
        key = (notification.user, notification.id)
        with self._lock:
            self._expire(self._now_s())
            if key in self._ids:
                return NotificationReceipt(notification.id, "stored", duplicate=True)
            self._ids[key] = self._now_s() + ID_S
            self._stored.append(notification)
            for listener in self._listeners:
                listener(notification)
        return NotificationReceipt(notification.id, "stored")

    def stored(self, user: str) -> list[Notification]:
        """The notifications of a user, oldest first."""
        with self._lock:
            return [notification for notification in self._stored if notification.user == user]

    def _expire(self, now_s: float) -> None:
        while self._ids:
            key, until_s = next(iter(self._ids.items()))
            if until_s > now_s and len(self._ids) < IDS_MAX:
                return
            del self._ids[key]
