"""What one transaction or savepoint of a session has changed so far. No database, no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field

from tidings.batch import AsyncBatch, Batch
from tidings.contrib.changes import Changes
from tidings.contrib.row_publications import Previous


@dataclass(slots=True)
class Frame:
    """One transaction or savepoint. `batches`: to send after the commit.

    `expired`: columns of changed objects that were not loaded before the flush. `gone`: deleted objects without a row.
    `previous`: rows that may have left a channel, as they were before the first change. All by the state of the object:
    objects may be unhashable.
    """

    changes: Changes
    flushing: bool = False
    committed: bool = False
    batches: list[Batch | AsyncBatch] | None = None
    expired: dict[object, set[str]] = field(default_factory=dict)
    gone: set[object] = field(default_factory=set)
    previous: dict[object, Previous] = field(default_factory=dict)

    def absorb(self, savepoint: Frame) -> None:
        """Add the changes of a savepoint that was released."""
        self.changes.absorb(savepoint.changes)
        self.previous = savepoint.previous | self.previous
