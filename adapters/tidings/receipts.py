"""What a publish returns: a receipt for each publication, or the error that holds the receipts of the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tidings.errors import BadRequest, HubError, TidingsError
from tidings.wire.reports import Report


class _Waitable:
    """What a receipt waits with. No field: it is neither compared nor shown, and stays behind when one is pickled."""

    __slots__ = ("_wait",)
    _wait: Callable[[int, float], Any]


@dataclass(frozen=True, slots=True, eq=False)
class Receipt(_Waitable):
    """What a publish returns once the broker has it, or a queue in front of it.

    `cursor` is the publication's own place; `duplicate` says that the broker had
    already seen this id in this channel and that nothing new was published.

    Through a queue (amqp:// and others) the receipt says that the queue has it durably and that it will be
    published: it has no number yet, so `cursor` is "", and `duplicate` is always False.

    Socket.IO servers (socketio+redis://) number nothing: then `cursor` is "" and `duplicate` False, and the
    receipt says that at least one server got it.
    """

    id: str
    cursor: str
    duplicate: bool = False

    @property
    def queued(self) -> bool:
        """Whether a queue has it, and no hub has published it yet. Says nothing of Socket.IO servers' receipts."""
        return not self.cursor

    def wait(self, acks: int = 1, timeout_s: float = 5.0) -> Report:
        """What became of it, as soon as so many clients have acknowledged it.

        With `acks` 0 as soon as nothing more is expected: it has arrived at every node with subscribers, and all who
        can have acknowledged it, or had the hub's `ack_timeout_s` to.

        For publications of `emit(…, ack=True)`, by the process that emitted them, while the hub keeps its reports
        (`report_keep_s`). An AsyncEmitter's receipt is to be awaited: `await receipt.wait(…)`.

        Raises:
            TimedOut: there were not so many within `timeout_s` seconds.
            BadRequest: it was emitted without `ack=True`, or by another process.
            NotFound, Unavailable: nobody keeps a report on it any more; no answer.
        """
        found: Report = self._waiter()(acks, timeout_s)
        return found

    def set_waiter(self, wait: Callable[[int, float], Any]) -> None:
        """What `wait` is to call. For emitters."""
        object.__setattr__(self, "_wait", wait)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Receipt):
            return NotImplemented
        return (self.id, self.cursor, self.duplicate) == (other.id, other.cursor, other.duplicate)

    def __hash__(self) -> int:
        return hash((self.id, self.cursor, self.duplicate))

    def _waiter(self) -> Callable[[int, float], Any]:
        try:
            return self._wait
        except AttributeError:
            raise BadRequest(
                f"nobody was asked to acknowledge {self.id}: emit it with ack=True, and wait there"
            ) from None


class AsyncReceipt(Receipt):
    """The same from an AsyncEmitter's `emit(…, ack=True)`: there waiting is awaited."""

    __slots__ = ()

    async def wait(self, acks: int = 1, timeout_s: float = 5.0) -> Report:  # type: ignore[override]  # awaited
        """As `Receipt.wait`."""
        waiting: Any = self._waiter()
        found: Report = await waiting(acks, timeout_s)
        return found


class BatchFailed(HubError):
    """Some publications of one call were not taken.

    `results` holds one entry per publication, in the order in which they were
    given: its Receipt, or the error that says why it was not taken.
    """

    def __init__(self, results: Sequence[Receipt | TidingsError]) -> None:
        failures = [result for result in results if isinstance(result, TidingsError)]
        first = f"; the first: {failures[0]}" if failures else ""
        super().__init__(f"{len(failures)} of {len(results)} publications were not taken{first}")
        self.results = list(results)

    def __reduce__(self) -> tuple[type[BatchFailed], tuple[list[Receipt | TidingsError]]]:
        # Task queues carry exceptions between processes; the default would hand the message to __init__.
        return type(self), (self.results,)
