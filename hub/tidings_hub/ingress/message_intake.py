"""Handles the messages of one queue, in order: publishes and acknowledges them, or has them dead-lettered.

Notifications are handed to the notification service meanwhile (`NotificationHandover`), in their own order.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from tidings.backoff import delay_s
from tidings.errors import BadPacket, Internal, TidingsError, TooLarge
from tidings.publishers.base import STEP_MAX, STEP_MAX_BYTES, OutgoingPublication
from tidings.receipts import Receipt
from tidings.wire.queue_message import QueuedPublication
from tidings_hub.core.queues.queue_intake import (
    Backlog,
    Disposition,
    Outcome,
    QueuedNotification,
    disposition,
    read_queued,
)
from tidings_hub.ingress.crash_guard import CrashGuard, CrashVerdict
from tidings_hub.ingress.dead_letters import DeadLetters
from tidings_hub.ingress.notification_handover import NotificationHandover
from tidings_hub.ingress.undecoded_message import body_of, is_redelivered, key_of
from tidings_hub.log import log_rate_limited
from tidings_hub.metrics import Metrics

logger = logging.getLogger("tidings.ingress")

Publish = Callable[[Sequence[OutgoingPublication]], list[Receipt | TidingsError]]

# Back-off between two attempts while the broker accepts no messages.
_RETRY_BASE_S = 0.2
_RETRY_CAP_S = 5.0
# Between two questions whether another node still handles a message.
_OWNER_POLL_S = 0.5
# Longest wait while there are dead letters or notifications, whose messages are to be acknowledged.
_DEAD_POLL_S = 0.05
_random = secrets.SystemRandom().random


class MessageIntake:
    """The messages that a node has received and not acknowledged. For one thread.

    Messages that arrive for the first time are published together (`Backlog`). A message that was delivered before is
    handled alone, because it may be what killed a node (`crash_guard`). The messages behind it wait.
    """

    def __init__(
        self,
        name: str,
        *,
        publish: Publish,
        guard: CrashGuard,
        dead_letters: DeadLetters,
        handover: NotificationHandover,
        data_max_bytes: int,
        idempotency_s: int,
        metrics: Metrics,
    ) -> None:
        self._name = name
        self._publish = publish
        self._guard = guard
        self._dead_letters = dead_letters
        self._handover = handover
        self._data_max_bytes = data_max_bytes
        self._idempotency_s = idempotency_s
        self._metrics = metrics
        self.forget()

    def forget(self) -> None:
        """Forget all messages, because the connection has broken: the queue delivers them again."""
        self._arrived: deque[Any] = deque()
        # Bytes of `_arrived`. They may wait for as long as the broker is away.
        self.arrived_bytes = 0
        self._backlog: Backlog[Any, QueuedPublication] = Backlog(
            _pause_s, step_max=STEP_MAX, step_max_bytes=STEP_MAX_BYTES
        )
        # Attempts to handle the first of `_arrived`, which was delivered before.
        self._postponed = 0
        self._due_s = 0.0
        self._dead_letters.forget_deliveries()
        self._handover.forget()

    def __len__(self) -> int:
        """How many messages are neither acknowledged nor dead letters."""
        return self.unpublished_count + len(self._handover)

    @property
    def unpublished_count(self) -> int:
        """How many messages were received and not published: all of `len` but notifications."""
        return len(self._arrived) + len(self._backlog)

    @property
    def held_count(self) -> int:
        """How many messages wait because the broker or the notification service did not accept one."""
        return len(self) if self._postponed or self._backlog.held_count else self._handover.held_count

    def receive(self, message: Any) -> None:
        """Append a message of kombu. It is not read before its turn."""
        self._metrics.ingress_consumed += 1
        self._arrived.append(message)
        self.arrived_bytes += _size_bytes(message)

    def wait_s(self, now_s: float, *, most_s: float) -> float:
        """Seconds until there is something to do, at most `most_s`."""
        is_polling = len(self._dead_letters) or len(self._handover)
        wait_s = self._backlog.wait_s(now_s, most_s=min(most_s, _DEAD_POLL_S) if is_polling else most_s)
        return min(wait_s, max(0.0, self._due_s - now_s)) if self._arrived and not self._backlog else wait_s

    def work(self) -> None:
        """Handle the messages whose turn it is.

        Raises:
            One of the connection's `errors`: a message could not be acknowledged.
        """
        self._dead_letters.acknowledge()
        for message, outcome in self._handover.pop_outcomes():
            self._settle(message, outcome)
        while self._arrived:
            message = self._arrived[0]
            if is_redelivered(message):
                if self._backlog or not self._handle_alone(message):
                    break
                self._postponed, self._due_s = 0, 0.0
                self._pop_arrived()
            else:
                self._pop_arrived()
                queued = self._read(message)
                if isinstance(queued, TidingsError):
                    self._dead_letters.add(message, queued)
                elif isinstance(queued, QueuedNotification):
                    self._handover.add(message, queued)
                else:
                    self._backlog.add(message, queued)
        self._publish_due()

    def _pop_arrived(self) -> None:
        self.arrived_bytes -= _size_bytes(self._arrived.popleft())

    def _read(self, message: Any) -> QueuedPublication | QueuedNotification | TidingsError:
        if message.compression:
            return BadPacket(f"it is compressed (header compression: {message.compression!a}); send it as it is")
        queued = read_queued(body_of(message), data_max_bytes=self._data_max_bytes)
        self._metrics.publications_too_large += isinstance(queued, TooLarge)
        return queued

    def _handle_alone(self, message: Any) -> bool:
        """Handle a message that was delivered before. Returns false if it has to wait, in its place."""
        now_s = time.monotonic()
        if now_s < self._due_s:
            return False
        key = key_of(message)
        try:
            verdict = self._guard.begin(key)
        except TidingsError as error:
            return self._postpone(error, _pause_s(self._postponed))
        if verdict is CrashVerdict.WAIT:
            return self._postpone(Internal("a node may have died while it handled this message"), _OWNER_POLL_S)
        if verdict is CrashVerdict.CRASHED:
            self._dead_letters.add(message, Internal("two nodes died, the second one while it handled this message"))
            return True
        try:
            queued = self._read(message)
            if isinstance(queued, QueuedNotification):
                # Its dangerous part was to read it. The service is another process, and may be away for long.
                self._handover.add(message, queued)
                return True
            answer = queued if isinstance(queued, TidingsError) else self._answers([queued])[0]
        finally:
            self._guard.finish(key)
        return self._settle(message, answer) or self._postpone(answer, _pause_s(self._postponed))

    def _postpone(self, error: Outcome, pause_s: float) -> bool:
        self._postponed += 1
        self._due_s = time.monotonic() + pause_s
        self._log_held(error)
        return False

    def _publish_due(self) -> None:
        """Publish the due messages, then acknowledge, retry or dead-letter each one."""
        due = self._backlog.due(time.monotonic())
        if not due:
            return
        answers = self._answers([message.queued for message in due])
        for message, _, answer in self._backlog.apply_answers(answers, time.monotonic()):
            if not self._settle(message.message, answer):
                self._log_held(answer)

    def _answers(self, queued: Sequence[QueuedPublication]) -> list[Receipt | TidingsError]:
        items = [OutgoingPublication(item.channel, item.body, item.id, self._idempotency_s) for item in queued]
        try:
            return self._publish(items)
        except TidingsError as error:
            return [error] * len(items)

    def _settle(self, message: Any, answer: Outcome) -> bool:
        """Acknowledge or dead-letter a message. Returns false if it is to be retried."""
        decision = disposition(answer)
        if decision is Disposition.ACK:
            message.ack()
            self._metrics.ingress_acked += 1
        elif decision is Disposition.DEAD_LETTER and isinstance(answer, TidingsError):
            self._dead_letters.add(message, answer)
        return decision is not Disposition.RETRY

    def _log_held(self, error: Outcome) -> None:
        log_rate_limited(
            *(logger, logging.WARNING, f"ingress {self._name} held"),
            *("ingress %s: publications wait, in their order: %s", self._name, error),
        )


def _size_bytes(message: Any) -> int:
    return len(message.body or b"")


def _pause_s(attempt: int) -> float:
    return delay_s(attempt, base_s=_RETRY_BASE_S, cap_s=_RETRY_CAP_S, random=_random)
