"""Asks the notification service at an interval whether it is ready, for `/readyz` and the metrics of a node."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from tidings_hub.metrics import Metrics
from tidings_hub.services.notification_link import READY, NotificationLink

logger = logging.getLogger("tidings.notifications")

_NOT_ASKED: Final = "not asked yet"
_INTERVAL_S: Final = 5.0
# While it is not ready: so that requests are tried again soon after it is back.
_RETRY_S: Final = 1.0


class NotificationWatch:
    """The state of the service, as of the last question. `link`: None if this node has no service."""

    def __init__(self, link: NotificationLink | None, metrics: Metrics, *, sleep: Callable[[float], None]) -> None:
        self._link = link
        self._metrics = metrics
        self._sleep = sleep
        self._state = "" if link is None else _NOT_ASKED

    def state(self) -> str:
        """`ok`, or what it lacks; empty if this node has no service. The log has the cause."""
        return self._state

    def run(self) -> None:
        """Ask without end. Returns if there is no service."""
        while self._link is not None:
            state = self._link.probe()
            if state == READY and self._state not in {READY, _NOT_ASKED}:
                logger.info("the notification service at %s is ready", self._link.url)
            self._state = state
            self._metrics.notification_service_up = int(self._state == READY)
            self._sleep(_INTERVAL_S if self._state == READY else _RETRY_S)
