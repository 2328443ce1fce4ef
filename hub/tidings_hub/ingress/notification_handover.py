"""Hands notifications of a queue to the notification service, in a thread of its own and in their order.

While the service does not answer, they wait. Meanwhile the ingress publishes the other messages of the queue. The
thread never acknowledges a message: connections of kombu belong to the thread of the ingress.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from tidings.backoff import delay_s
from tidings.errors import HubError, Internal, NotFound, TidingsError
from tidings.publishers.base import STEP_MAX, STEP_MAX_BYTES
from tidings.wire.notification import Notification
from tidings_hub.core.queues.queue_intake import (
    Backlog,
    Disposition,
    Outcome,
    QueuedMessage,
    QueuedNotification,
    disposition,
)
from tidings_hub.log import log_rate_limited
from tidings_hub.metrics import Metrics
from tidings_hub.services.backend_notifications import Handover
from tidings_hub.supervised_task import SupervisedTask

logger = logging.getLogger("tidings.ingress")

Store = Callable[[Sequence[Sequence[Notification]]], list[Handover]]
"""`BackendNotifications.store`."""

_RETRY_BASE_S: Final = 0.2
_RETRY_CAP_S: Final = 5.0
_IDLE_S: Final = 60.0
_random = secrets.SystemRandom().random


class NotificationHandover:
    """The notifications of one queue that the service does not have yet."""

    def __init__(self, name: str, store: Store, metrics: Metrics) -> None:
        self._name = name
        self._store = store
        self._metrics = metrics
        # Guards the next two. Nothing waits while it is held.
        self._lock = threading.Lock()
        self._outcomes: list[tuple[Any, Outcome]] = []
        self._backlog = self._new_backlog()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(
            target=SupervisedTask("notification_handover", self._run, self._metrics),
            name=f"notifications-{self._name}",
            daemon=True,
        )
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Stop the thread. What the service does not have is not acknowledged."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def add(self, message: Any, queued: QueuedNotification) -> None:
        """Append the notification of a message of kombu. Never waits."""
        with self._lock:
            self._backlog.add(message, queued)
        self._wake.set()

    def pop_outcomes(self) -> list[tuple[Any, Outcome]]:
        """The messages that are stored, or that can never be, each with its outcome. It returns them once."""
        with self._lock:
            outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def forget(self) -> None:
        """Forget all messages, because the connection has broken: the queue delivers them again."""
        with self._lock:
            self._backlog, self._outcomes = self._new_backlog(), []

    def __len__(self) -> int:
        """How many messages are to be acknowledged or rejected, now or later."""
        return len(self._backlog) + len(self._outcomes)

    @property
    def held_count(self) -> int:
        """How many messages wait because the service did not take them or one before them."""
        return self._backlog.held_count

    @staticmethod
    def _new_backlog() -> Backlog[Any, QueuedNotification]:
        return Backlog(_pause_s, step_max=STEP_MAX, step_max_bytes=STEP_MAX_BYTES)

    def _run(self) -> None:
        while not self._stopping.is_set():
            with self._lock:
                backlog, now_s = self._backlog, time.monotonic()
                due, wait_s = backlog.due(now_s), backlog.wait_s(now_s, most_s=_IDLE_S)
            if due:
                self._hand_over(backlog, due)
            elif backlog:
                # A new message does not shorten the pause.
                self._stopping.wait(wait_s)
            elif self._wake.wait(wait_s):
                self._wake.clear()

    def _hand_over(
        self, backlog: Backlog[Any, QueuedNotification], due: Sequence[QueuedMessage[Any, QueuedNotification]]
    ) -> None:
        answers = self._answers([message.queued.notification for message in due])
        with self._lock:
            if backlog is not self._backlog:
                # These messages are forgotten: the queue delivers them again.
                return
            for message, decision, answer in backlog.apply_answers(answers, time.monotonic()):
                if decision is not Disposition.RETRY:
                    self._outcomes.append((message.message, answer))
        held = next((answer for answer in answers if disposition(answer) is Disposition.RETRY), None)
        if held is not None:
            log_rate_limited(
                *(logger, logging.WARNING, f"ingress {self._name} notifications held"),
                *("ingress %s: notifications wait, in their order: %s", self._name, held),
            )

    def _answers(self, notifications: Sequence[Notification]) -> list[Handover]:
        try:
            return self._store([[notification] for notification in notifications])
        except TidingsError as error:
            is_away = isinstance(error, HubError | NotFound) and not isinstance(error, Internal)
            if is_away or len(notifications) == 1:
                return [error] * len(notifications)
            # The request was refused, for example because it is larger than the service allows, or the service failed
            # unexpectedly. One of them may be the cause, and must not stop the others.
            return [answer for notification in notifications for answer in self._answers([notification])]


def _pause_s(attempt: int) -> float:
    return delay_s(attempt, base_s=_RETRY_BASE_S, cap_s=_RETRY_CAP_S, random=_random)
