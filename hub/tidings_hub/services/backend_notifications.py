"""Notifications of backends: handed to the notification service, which stores them before it answers.

Each method waits for the service, at most `request_timeout_s`. Call it from a worker greenlet, never from the pump.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from tidings.errors import Internal, TidingsError, from_wire
from tidings.receipts import NotificationReceipt
from tidings.wire.notification import Notification
from tidings.wire.payload import encode_data
from tidings_hub.metrics import Metrics
from tidings_hub.services.notification_link import RequestLane
from tidings_hub.services.user_inbox import InboxService

# In one request to the service.
NOTIFICATIONS_MAX: Final = 1_000
_DELETION_MAX_BYTES: Final = 262_144

Handover = NotificationReceipt | TidingsError


class BackendNotifications:
    """Hands notifications to the service of `inbox`, without waiting for the requests of clients.

    `size`: requests at a time; others wait.
    """

    def __init__(self, inbox: InboxService, metrics: Metrics, *, size: int) -> None:
        self._inbox = inbox
        self._metrics = metrics
        self._lane = None if inbox.link is None else RequestLane(inbox.link, size)

    def store(self, groups: Sequence[Sequence[Notification]]) -> list[Handover]:
        """Store notifications. Returns a result for each, in order.

        `groups`: not empty; the notifications of one differ only in their user.

        Raises:
            NotFound: this hub has no inboxes. Unavailable: the service does not answer, and has stored nothing.
            TimedOut: it may have stored them.
        """
        _, answer = self._checked_lane().request("POST", "/notifications", _body(groups))
        results = answer.get("results")
        expected = sum(map(len, groups))
        if not isinstance(results, list) or len(results) != expected:
            raise Internal(f"the notification service did not answer with {expected} results; update it")
        handovers = [_handover(result) for result in results]
        for handover in handovers:
            outcome = handover.code.name if isinstance(handover, TidingsError) else handover.state
            self._metrics.count(self._metrics.notifications_handed, outcome)
        return handovers

    def delete(self, user: str, fields: Mapping[str, object]) -> str:
        """Delete notifications of a user: those with `ids`, or all of a `group`. Returns the result as JSON.

        Raises:
            BadRequest, TooLarge: a field is wrong. Otherwise as `store`.
        """
        lane = self._checked_lane()
        body = encode_data({**fields, "user": user}, max_bytes=_DELETION_MAX_BYTES)
        return lane.request("POST", "/notifications/delete", body)[0]

    def _checked_lane(self) -> RequestLane:
        if self._lane is None:
            self._inbox.raise_no_service()
        return self._lane


def _body(groups: Iterable[Sequence[Notification]]) -> bytes:
    items = [
        group[0].encode() if len(group) == 1 else group[0].encode_for([item.user for item in group]) for group in groups
    ]
    return b'{"notifications":[%b]}' % b",".join(items)


def _handover(result: object) -> Handover:
    match result:
        case {"id": str(id), "state": str(state), "duplicate": bool(duplicate)}:
            return NotificationReceipt(id, state, duplicate)
        case {"error": {"code": str(code), "message": str(message)}}:
            return from_wire(code, message)
    raise Internal("the notification service did not answer with receipts; update it")
