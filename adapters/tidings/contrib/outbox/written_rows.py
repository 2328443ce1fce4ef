"""Rows that the thread which wrote them publishes right after its commit, without the locks of a relay.

That keeps the order of a channel only if nothing else waits in it, which the caller knows. The rows remain until the
relay deletes many of them at once. If the process dies before, a relay publishes them again, and their ids suppress it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tidings.contrib.outbox.store import OutboxStore
from tidings.errors import TidingsError
from tidings.publishers.base import OutgoingPublication, Publisher
from tidings.receipts import Receipt
from tidings.wire.channels import check_channel
from tidings.wire.publication import encode_inbox_body

# A row whose commit began longer ago is left to the relay: another one may have published it and what came after it.
# It is a small part of the time for which the broker remembers ids, after which the row would arrive out of order.
FRESH_S: Final = 2.0
# The wait for further rows, since a deletion costs as much for one row as for many.
DELETE_AFTER_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class WrittenRow:
    """A committed row: an event of a user's inbox. `data`: JSON as `payload.encode_data` writes it."""

    row_no: int
    id: str
    channel: str
    event: str
    data: str
    at_ms: int


class WrittenRows:
    """Publishes such rows, and remembers which of them are to be deleted. Threads may share it."""

    def __init__(self, publisher: Publisher, *, keep_s: int, timeout_s: float) -> None:
        self._publisher = publisher
        self._keep_s, self._timeout_s = keep_s, timeout_s
        self._lock = threading.Lock()
        self._published: set[int] = set()
        self._since_s = 0.0

    def publish(self, rows: Sequence[WrittenRow], started_s: float) -> list[Receipt]:
        """Publish rows of different channels. `started_s`: when their commit began, a time of `time.monotonic`.

        Returns a receipt for each that was published. The others are left to the relay.
        """
        if time.monotonic() - started_s > FRESH_S:
            return []
        try:
            items = [self._item_of(row) for row in rows]
        except TidingsError:
            # The relay dead-letters the one that cannot be published.
            return []
        results = self._publisher.publish(items, timeout_s=self._timeout_s)
        receipts = {
            row.row_no: result for row, result in zip(rows, results, strict=True) if isinstance(result, Receipt)
        }
        with self._lock:
            if not self._published:
                self._since_s = time.monotonic()
            self._published.update(receipts)
        return list(receipts.values())

    def published(self) -> set[int]:
        """The numbers of the published rows that may not be deleted yet."""
        with self._lock:
            return set(self._published)

    def delete_due(self, store: OutboxStore) -> None:
        """Delete them if it is time."""
        if self.left_s() == 0:
            row_nos = sorted(self.published())
            store.delete(row_nos)
            self.forget(row_nos)

    def forget(self, row_nos: Collection[int]) -> None:
        """Forget rows that are deleted."""
        if row_nos:
            with self._lock:
                self._published.difference_update(row_nos)
                self._since_s = time.monotonic()

    def left_s(self) -> float | None:
        """Seconds until there is something to delete; None: nothing was published."""
        with self._lock:
            return max(0.0, self._since_s + DELETE_AFTER_S - time.monotonic()) if self._published else None

    def _item_of(self, row: WrittenRow) -> OutgoingPublication:
        """The same publication as that of `item_of`. What the process itself has encoded is not parsed again."""
        body = encode_inbox_body(row.event, row.data.encode(), id=row.id, at_ms=row.at_ms)
        return OutgoingPublication(check_channel(row.channel), body, row.id, self._keep_s)


def are_of_different_channels(rows: Iterable[WrittenRow]) -> bool:
    """Whether no two rows are of the same channel."""
    channels = [row.channel for row in rows]
    return len(set(channels)) == len(channels)
