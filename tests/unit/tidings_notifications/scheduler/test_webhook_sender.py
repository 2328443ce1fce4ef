from __future__ import annotations

import queue

from tidings_hub.config.hooks import Hooks
from tidings_notifications.core.counts import InboxCounts
from tidings_notifications.core.delivery import DueDelivery, Outcome, Retry
from tidings_notifications.core.notification import WEBHOOK, Category, Place, StoredNotification
from tidings_notifications.scheduler.webhook_sender import WebhookSender

# The settings refuse this port.
CATEGORY = Category(webhook="https://shop.example:65536/mail")


def delivery(number: int) -> DueDelivery:
    row = StoredNotification(f"n{number}", "7", Place.INBOX, "order", "Shipped", 1)
    return DueDelivery(f"d{number}", "claim", WEBHOOK, row, CATEGORY, InboxCounts("7"), None, 1)


def test_each_delivery_has_an_outcome_and_frees_its_place_whatever_happens() -> None:
    sender = WebhookSender(Hooks(connections=2), "a secret")
    outcomes: queue.Queue[tuple[str, Outcome]] = queue.Queue()
    try:
        # One after the other, more than there are places.
        for number in range(6):
            sender.submit([delivery(number)], lambda due, outcome: outcomes.put((due.id, outcome)))
            id_, outcome = outcomes.get(timeout=20)
            assert (id_, isinstance(outcome, Retry)) == (f"d{number}", True)
    finally:
        sender.stop()
