"""Decides how each message of a queue ends (PROTOCOL.md section 11).

A message is read (`read_queued`) and given to the broker in its order (`Backlog`). The broker's answer decides whether
it is acknowledged, dead-lettered with a reason, or retried (`disposition`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from tidings.errors import BadData, BadRequest, HubError, TidingsError
from tidings.receipts import NotificationReceipt, Receipt
from tidings.wire.notification import Notification
from tidings.wire.payload import MAX_DEPTH, is_too_deep
from tidings.wire.queue_message import (
    QueuedPublication,
    decode_queue_message,
    decode_queue_notification,
    is_queue_notification,
)
from tidings_hub.core.strict_json import loads

_REASON_MAX = 500

M = TypeVar("M")
Outcome = Receipt | NotificationReceipt | TidingsError
"""What the broker or the notification service answered for one message."""


@dataclass(frozen=True, slots=True)
class QueuedNotification:
    """The notification in a message. `body`: the message."""

    notification: Notification
    body: bytes


Q = TypeVar("Q", bound=QueuedPublication | QueuedNotification)


class Disposition(Enum):
    """What to do with a message after an attempt to publish it."""

    ACK = "acknowledge it: it is published"
    DEAD_LETTER = "move it to the dead-letter queue with the reason: it can never be published"
    RETRY = "keep it and retry: the broker did not accept it"


def read_queued(message: bytes, *, data_max_bytes: int) -> QueuedPublication | QueuedNotification | TidingsError:
    """The publication or notification in a message, or the error that explains why it can never be published.

    The data is parsed once, only to make sure that it is JSON, since any program can write to the queue. Every client
    that received invalid JSON would disconnect, reconnect and receive it again.
    """
    if is_queue_notification(message):
        return _read_notification(message, max_bytes=data_max_bytes)
    try:
        queued = decode_queue_message(message, data_max_bytes=data_max_bytes)
        loads(queued.data_json)
        if is_too_deep(queued.data_json):
            return BadData(f"the data is nested deeper than {MAX_DEPTH} levels")
    except BadRequest as error:
        return BadData(str(error).replace("the body", "the data"))
    except TidingsError as error:
        return error
    return queued


def _read_notification(message: bytes, *, max_bytes: int) -> QueuedNotification | TidingsError:
    try:
        return QueuedNotification(decode_queue_notification(message, publication_max_bytes=max_bytes), message)
    except TidingsError as error:
        return error


def disposition(answer: Outcome) -> Disposition:
    """What to do with a message for which the broker or the notification service returned `answer`."""
    if not isinstance(answer, TidingsError):
        return Disposition.ACK
    return Disposition.RETRY if isinstance(answer, HubError) else Disposition.DEAD_LETTER


def dead_letter_headers(
    error: TidingsError, *, queue: str, node: str, shortened_from_bytes: int | None = None
) -> dict[str, str]:
    """The headers of a dead letter: the reason, the queue it came from, and the node that moved it.

    `shortened_from_bytes`: the size of the message; None if the letter has all of it.
    """
    headers = {
        "tidings-code": error.code.name,
        "tidings-reason": str(error)[:_REASON_MAX],
        "tidings-queue": queue,
        "tidings-node": node,
    }
    return headers if shortened_from_bytes is None else headers | {"tidings-bytes": str(shortened_from_bytes)}


@dataclass(frozen=True, slots=True)
class QueuedMessage(Generic[M, Q]):
    """A message of the queue with what is in it. `message` is the client library's object."""

    message: M
    queued: Q


class Backlog(Generic[M, Q]):
    """Messages on their way from the queue to the broker, in order.

    Messages that the broker does not accept stay at the front. `pause_s` returns the seconds to wait after a failed
    attempt, given the number of failed attempts before it. An attempt fails if the broker accepts no message at all.
    `step_max`, `step_max_bytes`: how many messages, and how much, the broker stores in one step.
    """

    def __init__(self, pause_s: Callable[[int], float], *, step_max: int, step_max_bytes: int) -> None:
        self._pause_s = pause_s
        self._step_max = step_max
        self._step_max_bytes = step_max_bytes
        self._waiting: list[QueuedMessage[M, Q]] = []
        self._failed = 0
        self._due_s = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def held_count(self) -> int:
        """How many messages wait because the broker did not accept them or one before them."""
        return len(self._waiting) if self._failed else 0

    def add(self, message: M, queued: Q) -> None:
        """Append a message."""
        self._waiting.append(QueuedMessage(message, queued))

    def wait_s(self, now_s: float, *, most_s: float) -> float:
        """Seconds until the next attempt, at most `most_s`; `most_s` if no message waits."""
        return min(most_s, max(0.0, self._due_s - now_s)) if self._waiting else most_s

    def due(self, now_s: float) -> list[QueuedMessage[M, Q]]:
        """The messages to publish now, in order: as many as the broker stores in one step.

        Of several steps it could refuse the first one and accept the second one, for example at its memory limit. Then
        a channel would have a later message before an earlier one.
        """
        if now_s < self._due_s:
            return []
        count, size_bytes = 0, 0
        for waiting in self._waiting:
            size_bytes += len(waiting.queued.body)
            if count and (count == self._step_max or size_bytes > self._step_max_bytes):
                break
            count += 1
        return self._waiting[:count]

    def apply_answers(
        self, answers: Sequence[Outcome], now_s: float
    ) -> list[tuple[QueuedMessage[M, Q], Disposition, Outcome]]:
        """Remove the due messages that the broker's `answers` (in order) decide, and return what to do with each."""
        decisions = [
            (queued, disposition(answer), answer) for queued, answer in zip(self._waiting, answers, strict=False)
        ]
        retried = [queued for queued, decision, _ in decisions if decision is Disposition.RETRY]
        self._waiting = retried + self._waiting[len(decisions) :]
        # A message that is rejected while others are accepted must not slow down the others.
        self._failed = self._failed + 1 if retried and len(retried) == len(decisions) else min(len(retried), 1)
        self._due_s = now_s + (self._pause_s(self._failed - 1) if retried else 0.0)
        return decisions
