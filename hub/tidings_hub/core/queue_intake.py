"""What becomes of the messages of a queue (PROTOCOL.md section 11).

A message is read (`read`), given to the broker in its order (`Backlog`), and by what the broker says it is
acknowledged, put aside with a reason, or kept and tried again (`fate`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from tidings.errors import BadData, BadRequest, HubError, TidingsError
from tidings.receipts import Receipt
from tidings.wire.payload import MAX_DEPTH, check_depth
from tidings.wire.queue_message import QueuedPublication, decode_queue_message
from tidings_hub.core.strict_json import loads

_REASON_MAX = 500

M = TypeVar("M")


class Disposition(Enum):
    """What becomes of a message now."""

    ACK = "acknowledge it: it is published"
    DEAD_LETTER = "put it aside with the reason: it can never be published"
    RETRY = "keep it and try again: the broker did not take it"


def read_queued(message: bytes, *, data_max_bytes: int) -> QueuedPublication | TidingsError:
    """What a message says, or why it can never be published.

    The data is parsed once, only to be sure that it is JSON, since anybody may have written it: what is not
    would make every client that is sent it break off, come back, and get it again.
    """
    try:
        queued = decode_queue_message(message, data_max_bytes=data_max_bytes)
        data = queued.data_json
        value = loads(data)
        # Nothing is nested deeper than there are brackets.
        if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
            check_depth(value)
    except BadRequest as error:
        return BadData(str(error).replace("the body", "the data"))
    except TidingsError as error:
        return error
    return queued


def disposition(answer: Receipt | TidingsError) -> Disposition:
    """What becomes of a message about which the broker said this."""
    if isinstance(answer, Receipt):
        return Disposition.ACK
    return Disposition.RETRY if isinstance(answer, HubError) else Disposition.DEAD_LETTER


def dead_letter_headers(error: TidingsError, *, queue: str, node: str) -> dict[str, str]:
    """The headers of a message that is put aside: why, from where, by whom."""
    return {
        "tidings-code": error.code.name,
        "tidings-reason": str(error)[:_REASON_MAX],
        "tidings-queue": queue,
        "tidings-node": node,
    }


@dataclass(frozen=True, slots=True)
class QueuedMessage(Generic[M]):
    """A message that was taken from the queue, and what it says."""

    message: M
    queued: QueuedPublication


class Backlog(Generic[M]):
    """Messages on their way from the queue to the broker, in order.

    What the broker does not take stays at the front. `pause_s` says how long to wait after the so-many-th attempt
    (the first is 0) in which it took nothing at all.
    """

    def __init__(self, pause_s: Callable[[int], float]) -> None:
        self._pause_s = pause_s
        self._waiting: list[QueuedMessage[M]] = []
        self._failed = 0
        self._due_s = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def held_count(self) -> int:
        """How many wait because the broker did not take them, and those behind them."""
        return len(self._waiting) if self._failed else 0

    def add(self, message: M, queued: QueuedPublication) -> None:
        """A message came, after all others."""
        self._waiting.append(QueuedMessage(message, queued))

    def wait_s(self, now_s: float, *, most_s: float) -> float:
        """Seconds until the next attempt; `most_s` where nothing waits."""
        return min(most_s, max(0.0, self._due_s - now_s)) if self._waiting else most_s

    def due(self, now_s: float) -> list[QueuedMessage[M]]:
        """What to give to the broker now, in order."""
        return list(self._waiting) if now_s >= self._due_s else []

    def apply_answers(
        self, answers: Sequence[Receipt | TidingsError], now_s: float
    ) -> list[tuple[QueuedMessage[M], Disposition, Receipt | TidingsError]]:
        """What the broker said about those that were due, in order; what becomes of each."""
        settled = [(taken, disposition(answer), answer) for taken, answer in zip(self._waiting, answers, strict=False)]
        held = [taken for taken, what, _ in settled if what is Disposition.RETRY]
        self._waiting = held + self._waiting[len(settled) :]
        # One that is refused while others are taken must not slow these down.
        self._failed = self._failed + 1 if held and len(held) == len(settled) else min(len(held), 1)
        self._due_s = now_s + (self._pause_s(self._failed - 1) if held else 0.0)
        return settled
