"""What a publish returns: receipts, or the error that holds the receipts of the publications that succeeded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tidings.errors import BadRequest, HubError, TidingsError
from tidings.wire.reports import Report


class _Waitable:
    """The function that `Receipt.wait` calls. It is no field: not compared, not in `repr` and not pickled."""

    __slots__ = ("_wait",)
    _wait: Callable[[int, float], Any]


@dataclass(frozen=True, slots=True, eq=False)
class Receipt(_Waitable):
    """Proof that the broker, or a queue in front of it, has a publication.

    `cursor` is the publication's own place. `duplicate`: the broker already had this id in this channel, so nothing
    new was published.

    Through a queue (amqp:// and others) the queue has stored it durably, and a hub will publish it. It has no number
    yet: `cursor` is "" and `duplicate` is False.

    Through Socket.IO servers (socketio+redis://) at least one server received it. They number nothing: `cursor` is ""
    and `duplicate` is False.
    """

    id: str
    cursor: str
    duplicate: bool = False

    @property
    def queued(self) -> bool:
        """Whether a queue has it and no hub has published it yet. Without meaning for receipts of Socket.IO servers."""
        return not self.cursor

    def wait(self, acks: int = 1, timeout_s: float = 5.0) -> Report:
        """Wait until `acks` clients have acknowledged the publication. Returns its delivery report.

        With `acks` 0, wait until nothing more is expected. Then every node with subscribers has the publication, and
        each of its clients has acknowledged it or let the hub's `ack_timeout_s` pass.

        This works for publications of `emit(…, ack=True)`, in the process that emitted them, while the hub keeps its
        reports (`report_keep_s`). For the receipt of an AsyncEmitter, write `await receipt.wait(…)`.

        Raises:
            TimedOut: fewer than `acks` clients acknowledged it within `timeout_s` seconds.
            BadRequest: it was emitted without `ack=True`, or by another process.
            NotFound: no node has a report on it any more. Unavailable: no reply.
        """
        report: Report = self._waiter()(acks, timeout_s)
        return report

    def set_waiter(self, wait: Callable[[int, float], Any]) -> None:
        """Set the function that `wait` calls. For emitters."""
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
                f"no acknowledgements were requested for {self.id}: emit it with ack=True, and wait in the same process"
            ) from None


class AsyncReceipt(Receipt):
    """The receipt of an AsyncEmitter's `emit(…, ack=True)`, whose `wait` is awaited."""

    __slots__ = ()

    async def wait(self, acks: int = 1, timeout_s: float = 5.0) -> Report:  # type: ignore[override]  # awaited
        """As `Receipt.wait`."""
        waiter: Any = self._waiter()
        report: Report = await waiter(acks, timeout_s)
        return report


@dataclass(frozen=True, slots=True)
class NotificationReceipt:
    """Proof that a notification will be in its user's inbox.

    `state` is "stored" (over HTTP and in memory: it is there) or "accepted" (a Redis stream or a queue has it, and the
    notification service will store it). Over HTTP it may also be "suppressed": the user has switched off this category.
    `duplicate`: this id was stored for this user before, so nothing new was.
    """

    id: str
    state: str
    duplicate: bool = False


class BatchFailed(HubError):
    """Some publications or notifications of one call were not accepted.

    `results` has one entry for each, in order: its receipt, or the error that explains why it was not accepted.
    """

    def __init__(self, results: Sequence[Receipt | NotificationReceipt | TidingsError]) -> None:
        failures = [result for result in results if isinstance(result, TidingsError)]
        first = f"; the first: {failures[0]}" if failures else ""
        super().__init__(f"{len(failures)} of {len(results)} publications were not taken{first}")
        self.results = list(results)

    def __reduce__(self) -> tuple[type[BatchFailed], tuple[list[Receipt | NotificationReceipt | TidingsError]]]:
        # Task queues pickle exceptions; the default would pass the message to __init__.
        return type(self), (self.results,)
