"""Deliveries as push messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial

from tidings.errors import BadRequest
from tidings_notifications.core.delivery import DueDelivery, Failed, Outcome
from tidings_notifications.core.delivery_plan import end_ms
from tidings_notifications.core.push_message import encode_payload, topic_of, ttl_s
from tidings_notifications.web_push.client import PushMessage
from tidings_notifications.web_push.encryption import MessageKeys
from tidings_notifications.web_push.sender import Job, PushSender
from tidings_notifications.writer import now_ms


class PushDeliveries:
    """Sends the deliveries of Web Push. Threads may share it."""

    def __init__(self, sender: PushSender) -> None:
        self._sender = sender

    def submit(self, deliveries: Sequence[DueDelivery], done: Callable[[DueDelivery, Outcome], None]) -> None:
        """See `Sender.submit`."""
        jobs: list[Job] = []
        for due in deliveries:
            try:
                jobs.append(Job(message_of(due, now_ms()), partial(done, due)))
            except BadRequest as error:
                done(due, Failed(str(error)))
        self._sender.submit(jobs)


def message_of(due: DueDelivery, at_ms: int) -> PushMessage:
    """The message for the subscription of a delivery.

    Raises:
        BadRequest: the subscription has no keys that a browser makes.
    """
    row, subscription = due.notification, due.subscription
    if subscription is None:
        raise BadRequest("a push needs a subscription")
    payload = encode_payload(
        {
            "id": row.id,
            "category": row.category,
            "title": row.title,
            "body": row.body,
            "url": row.url,
            "icon": row.icon,
            "tag": row.group_key or row.id,
            "data": None if row.data is None else json.loads(row.data),
            "count": row.count,
            "counts": due.counts.to_wire(),
        }
    )
    return PushMessage(
        subscription.endpoint,
        MessageKeys.read(subscription.p256dh, subscription.auth),
        payload,
        ttl_s(end_ms(row), at_ms),
        due.category.urgency,
        None if row.group_key is None else topic_of(row.group_key),
    )
