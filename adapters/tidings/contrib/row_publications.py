"""Publications of changed rows, in as few batches as possible. No database, no I/O."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from tidings.async_emitter import AsyncEmitter
from tidings.batch import AsyncBatch, Batch
from tidings.contrib.changes import explicit_channels
from tidings.emitter import Emitter
from tidings.errors import TooLarge
from tidings.models.describe import Op
from tidings.models.versions import VersionOfKind

_logger = logging.getLogger("tidings")


class Previous(Protocol):
    """A row before a transaction: an object with its values, and its channels."""

    @property
    def obj(self) -> object:
        """The object."""

    @property
    def channels(self) -> list[str]:
        """The channels whose lists show the row."""

    def has_key_of(self, present: object) -> bool:
        """Whether the row still has its primary key."""


class RowPublications:
    """Collects publications. `batches`: to send after the commit."""

    def __init__(self, emitter: Emitter | AsyncEmitter) -> None:
        self.batches: list[Batch | AsyncBatch] = []
        self._emitter = emitter

    def add(self, obj: object, op: Op, version: VersionOfKind | None, previous: Previous | None) -> None:
        """Add the publication of a row, and its deletion in channels that it has left.

        Raises:
            CallerError: the row cannot be published.
        """
        if op == "deleted" and previous is not None:
            self._add_departure(previous, obj, version, previous.channels)
            return
        channels: list[str] = []
        explicit = explicit_channels(self._emitter.rule(type(obj)), obj)
        if explicit != []:

            def push(batch: Batch | AsyncBatch) -> None:
                channels.extend(item.channel for item in batch.push_row(obj, version, channels=explicit, op=op))

            self._add(push)
        if previous is not None:
            present_channels = channels if previous.has_key_of(obj) else []
            self._add_departure(
                previous, obj, version, [name for name in previous.channels if name not in present_channels]
            )

    def _add_departure(
        self, previous: Previous, present: object, version: VersionOfKind | None, channels: list[str]
    ) -> None:
        if not channels:
            return
        try:
            self._add(lambda batch: batch.push_departure(previous.obj, present, version, channels))
        except Exception as error:  # noqa: BLE001
            # The values from before cannot be published. That must not keep the row from being changed.
            shown, name = ", ".join(channels)[:300], type(present).__name__
            _logger.warning("lists of %s may keep a %s that has left: %s", shown, name, repr(error)[:200])

    def _add(self, push: Callable[[Batch | AsyncBatch], object]) -> None:
        """Add to the last batch, or to a new one if that is full."""
        if not self.batches:
            self.batches.append(self._emitter.batch().begin())
        try:
            push(self.batches[-1])
        except TooLarge:
            if not len(self.batches[-1]):
                raise
            self.batches.append(self._emitter.batch().begin())
            push(self.batches[-1])
