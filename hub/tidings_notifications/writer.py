"""Stores notifications of the HTTP API and of the intake, and counts them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from tidings.errors import BadConfig, HubError, TidingsError
from tidings.wire.notification import Notification
from tidings_hub.log import log_rate_limited
from tidings_notifications.core.notification import NewNotification, State, Stored
from tidings_notifications.inbox import EventPublisher, Inbox
from tidings_notifications.metrics import ServiceMetrics

logger = logging.getLogger("tidings.notifications")

# Batches in a row that the database did not store, until the service is not ready.
FAILURES_MAX: Final = 3
# Without a batch for so long, the checks of the sweeper alone decide. Otherwise a service that gets no notifications
# because it is not ready would never be ready again.
REMEMBERED_S: Final = 60.0


class NotificationWriter:
    """Stores batches, and remembers whether the database stores any. Threads may share it.

    The small row of `Inbox.check_write` is not enough for readiness: a full disk often has room for it, in pages that
    exist, and none for notifications.
    """

    def __init__(
        self, inbox: Inbox, metrics: ServiceMetrics, *, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._inbox = inbox
        self._metrics = metrics
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        # Since the last batch that was stored.
        self._failures = 0
        self._failed_at_s = 0.0
        self._last_error = ""

    def store_error(self) -> str:
        """Why the last batches were not stored; empty if one was, or if there are none."""
        with self._lock:
            is_recent = self._monotonic_s() - self._failed_at_s <= REMEMBERED_S
            return self._last_error if self._failures >= FAILURES_MAX and is_recent else ""

    def store(
        self, notifications: Sequence[Notification], *, publisher: EventPublisher | None = None
    ) -> list[Stored | TidingsError]:
        """Store a batch in one transaction. Returns a result for each notification, in order. See `Inbox.store`.

        Raises:
            HubError, BadConfig: the database failed, and nothing was stored.
        """
        started_s = time.monotonic()
        try:
            new = [new_notification(item) for item in notifications]
            results = self._inbox.store(new, now_ms(), publisher=publisher)
        except (HubError, BadConfig) as error:
            self._metrics.database_errors.inc()
            self._on_failed(error)
            raise
        with self._lock:
            self._failures = 0
        self._metrics.store_s.observe(time.monotonic() - started_s)
        for result in results:
            self._count(result)
        return results

    def _on_failed(self, error: TidingsError) -> None:
        with self._lock:
            self._failures += 1
            self._failed_at_s, self._last_error = self._monotonic_s(), str(error)
        log_rate_limited(logger, logging.WARNING, "store", "notifications are not stored: %s", error)

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
