"""Deliveries as push messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from tidings.errors import BadRequest
from tidings_notifications.core.delivery import DueDelivery, Failed, Outcome
from tidings_notifications.core.delivery_plan import end_ms
from tidings_notifications.core.push_message import encode_payload, message_of, topic_of, ttl_s
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
                jobs.append(Job(push_of(due, now_ms()), partial(done, due)))
            except BadRequest as error:
                done(due, Failed(str(error)))
        self._sender.submit(jobs)


def push_of(due: DueDelivery, at_ms: int) -> PushMessage:
    """The message for the subscription of a delivery.

    Raises:
        BadRequest: the subscription has no keys that a browser makes.
    """
    row, subscription = due.notification, due.subscription
    if subscription is None:
        raise BadRequest("a push needs a subscription")
    payload = encode_payload(message_of(row, due.counts))
    return PushMessage(
        subscription.endpoint,
        MessageKeys.read(subscription.p256dh, subscription.auth),
        payload,
        ttl_s(end_ms(row), at_ms),
        due.category.urgency,
        None if row.group_key is None else topic_of(row.group_key),
    )
