"""Many publications and notifications in one or two round trips."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self, Unpack

from tidings.builder import PublicationBuilder
from tidings.errors import BadRequest, TidingsError, TooLarge
from tidings.models.versions import VersionOfKind
from tidings.options import EventOptions, NotifyOptions, PushOptions
from tidings.publishers.base import (
    Outgoing,
    OutgoingPublication,
    OutgoingResult,
    PublishResult,
)
from tidings.receipts import BatchFailed


class Collected:
    """What a batch collects: at most `batch_max` publications and notifications, more raise TooLarge.

    Data is encoded when it is added. So an error is raised where it was made, and a later change of the object does
    not change the publication. `results` is filled when the batch is sent: one Receipt or error per publication and one
    NotificationReceipt or error per notification, in order. A call for several channels or users makes one for each.
    """

    def __init__(self, builder: PublicationBuilder, batch_max: int) -> None:
        self.results: list[OutgoingResult] = []
        self._builder = builder
        self._batch_max = batch_max
        self._items: list[Outgoing] = []
        self._has_notifications = False
        self._is_open = False

    def emit(self, event: str, data: object = None, *, ack: bool = False, **options: Unpack[EventOptions]) -> None:
        """Add what `Emitter.emit` would send. Options: `channel`, `channels` or `user`, and `id`.

        Raises:
            CallerError: as `Emitter.emit`; TooLarge also for a full batch.
        """
        self._add(self._builder.build_event(event, data, ack=ack, **options))

    def push_model(self, obj: object, **options: Unpack[PushOptions]) -> None:
        """Add what `Emitter.push_model` would send.

        Raises:
            CallerError: as `Emitter.push_model`; TooLarge also for a full batch.
        """
        self._add(self._builder.build_model(obj, **options))

    def notify(self, category: str, **options: Unpack[NotifyOptions]) -> None:
        """Add what `Emitter.notify` would send.

        Raises:
            CallerError: as `Emitter.notify`; TooLarge also for a full batch.
        """
        self._add(self._builder.build_notifications(category, **options))
        self._has_notifications = True

    def push_row(
        self, obj: object, fallback: VersionOfKind | None, /, **options: Unpack[PushOptions]
    ) -> list[OutgoingPublication]:
        """As `push_model`, for integrations. `fallback`: the version of an object that has none of its own."""
        items = self.build_row(obj, fallback, **options)
        self._add(items)
        return items

    def build_row(
        self, obj: object, fallback: VersionOfKind | None, /, **options: Unpack[PushOptions]
    ) -> list[OutgoingPublication]:
        """What `push_row` would add."""
        return self._builder.build_model(obj, fallback, **options)

    def push_departure(
        self, previous: object, present: object, fallback: VersionOfKind | None, channels: list[str]
    ) -> None:
        """Add what `build_departure` returns."""
        self._add(self.build_departure(previous, present, fallback, channels))

    def build_departure(
        self, previous: object, present: object, fallback: VersionOfKind | None, channels: list[str]
    ) -> list[OutgoingPublication]:
        """The deletion of a row in channels that it has left, for integrations. See `PublicationBuilder`."""
        return self._builder.build_departure(previous, present, fallback, channels)

    def replace(self, previous: Sequence[OutgoingPublication], items: Sequence[OutgoingPublication]) -> None:
        """Put `items` in the place of publications that one `push_row` added; at the end if there are none."""
        places = [place for place, item in enumerate(self._items) if any(item is old for old in previous)]
        start = places[0] if places else len(self._items)
        self._items[start : start + len(places)] = items

    def begin(self) -> Self:
        """Do what entering the `with` block does. Then call `send` or `drop` later, outside a `with` block.

        Raises:
            BadRequest: it was begun before.
        """
        if self._is_open or self.results:
            raise BadRequest("a batch is for one `with` block; make a new one with batch()")
        self._is_open = True
        return self

    def drop(self) -> None:
        """Discard what was collected; nothing of it is sent."""
        self._is_open = False
        self._items = []

    @property
    def channels(self) -> list[str]:
        """The channel of each publication, and the user's own channel of each notification, as in `results`."""
        return [item.channel for item in self._items]

    def __len__(self) -> int:
        """The number of publications and notifications."""
        return len(self._items)

    def _add(self, items: Sequence[Outgoing]) -> None:
        if not self._is_open:
            raise BadRequest("a batch collects only inside its `with` block; make a new one with batch()")
        if len(self._items) + len(items) > self._batch_max:
            raise TooLarge(f"a batch of more than {self._batch_max} publications; send several, or raise batch_max")
        self._items += items

    def _end(self) -> list[Outgoing]:
        """End collecting. Returns what to send; nothing the second time."""
        items = self._items if self._is_open else []
        self._is_open = False
        return items

    def _finish(self, results: Sequence[OutgoingResult]) -> None:
        self.results = [*results]
        failures = [result for result in self.results if isinstance(result, TidingsError)]
        if failures:
            raise BatchFailed(self.results) from failures[0]


class Batch(Collected):
    """`with emitter.batch() as batch:`; sent at the end of the block, or discarded if the block raises.

    Leaving the block raises BatchFailed if anything was not accepted.
    """

    def __init__(
        self,
        builder: PublicationBuilder,
        batch_max: int,
        publish: Callable[[list[OutgoingPublication]], list[PublishResult]],
        send_mixed: Callable[[list[Outgoing]], list[OutgoingResult]],
    ) -> None:
        super().__init__(builder, batch_max)
        self._publish = publish
        self._send_mixed = send_mixed

    def send(self) -> None:
        """Send what was collected. Raises BatchFailed if anything was not accepted."""
        if items := self._end():
            if self._has_notifications:
                self._finish(self._send_mixed(items))
            else:
                self._finish(self._publish(items))  # type: ignore[arg-type]  # publications only

    def __enter__(self) -> Self:
        return self.begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.send()
        else:
            self.drop()


class AsyncBatch(Collected):
    """`async with emitter.batch() as batch:`; otherwise as `Batch`. `emit`, `notify` and `push_model` only collect."""

    def __init__(
        self,
        builder: PublicationBuilder,
        batch_max: int,
        publish: Callable[[list[OutgoingPublication]], Awaitable[list[PublishResult]]],
        send_mixed: Callable[[list[Outgoing]], Awaitable[list[OutgoingResult]]],
    ) -> None:
        super().__init__(builder, batch_max)
        self._publish = publish
        self._send_mixed = send_mixed

    async def send(self) -> None:
        """Send what was collected. Raises BatchFailed if anything was not accepted."""
        if items := self._end():
            if self._has_notifications:
                self._finish(await self._send_mixed(items))
            else:
                self._finish(await self._publish(items))  # type: ignore[arg-type]  # publications only

    async def __aenter__(self) -> Self:
        return self.begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.send()
        else:
            self.drop()
