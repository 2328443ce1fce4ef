"""Stores notifications of the HTTP API and of the intake, and counts them."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tidings.errors import HubError, TidingsError
from tidings.wire.notification import Notification
from tidings_notifications.core.notification import NewNotification, State, Stored
from tidings_notifications.inbox import EventPublisher, Inbox
from tidings_notifications.metrics import ServiceMetrics


class NotificationWriter:
    """Stores batches. Threads may share it."""

    def __init__(self, inbox: Inbox, metrics: ServiceMetrics) -> None:
        self._inbox = inbox
        self._metrics = metrics

    def store(
        self, notifications: Sequence[Notification], *, publisher: EventPublisher | None = None
    ) -> list[Stored | TidingsError]:
        """Store a batch in one transaction. Returns a result for each notification, in order. See `Inbox.store`.

        Raises:
            HubError: the database failed, and nothing was stored.
        """
        started_s = time.monotonic()
        try:
            new = [new_notification(item) for item in notifications]
            results = self._inbox.store(new, now_ms(), publisher=publisher)
        except HubError:
            self._metrics.database_errors.inc()
            raise
        self._metrics.store_s.observe(time.monotonic() - started_s)
        for result in results:
            self._count(result)
        return results

    def _count(self, result: Stored | TidingsError) -> None:
        if isinstance(result, TidingsError):
            self._metrics.rejected.labels(result.code.name).inc()
        elif result.duplicate:
            self._metrics.duplicates.inc()
        elif result.state is State.STORED:
            self._metrics.stored.inc()
        else:
            self._metrics.excluded.labels(result.state.value).inc()


def new_notification(item: Notification) -> NewNotification:
    """A notification of the wire format for the inbox."""
    return NewNotification(
        user=item.user,
        category=item.category,
        caller_id=item.id,
        title=item.title,
        body=item.body,
        url=item.url,
        icon=item.icon,
        data=None if item.data_json is None else item.data_json.decode(),
        group=item.group,
        expires_ms=item.expires_at_ms,
    )


def now_ms() -> int:
    """The time in unix milliseconds."""
    return time.time_ns() // 1_000_000
