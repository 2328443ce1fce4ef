"""Sends what rows hold: publications and notifications, each in its own call."""

from __future__ import annotations

import time

from tidings.builder import in_order_of, no_time_left, split_items
from tidings.errors import BadConfig
from tidings.options import NO_INBOX
from tidings.publishers.base import (
    Notifier,
    NotifyResult,
    Outgoing,
    OutgoingNotification,
    OutgoingResult,
    Publisher,
)


def send_items(publisher: Publisher, items: list[Outgoing], timeout_s: float) -> list[OutgoingResult]:
    """The results of publications and notifications, which share the time limit."""
    publications, notifications = split_items(items)
    end_s = time.monotonic() + timeout_s
    published = publisher.publish(publications, timeout_s=timeout_s) if publications else []
    notified = _notify(publisher, notifications, end_s - time.monotonic()) if notifications else []
    return in_order_of(items, published, notified)


def _notify(publisher: Publisher, notifications: list[OutgoingNotification], left_s: float) -> list[NotifyResult]:
    if not isinstance(publisher, Notifier):
        return [BadConfig(NO_INBOX) for _ in notifications]
    return publisher.notify(notifications, timeout_s=left_s) if left_s > 0 else no_time_left(notifications)
