"""Many publications in one round trip."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Self, Unpack

from tidings.builder import PublicationBuilder, without_own_duplicates
from tidings.errors import BadRequest, TidingsError, TooLarge
from tidings.models.registry import ModelOptions
from tidings.publishers.base import OutgoingPublication, PublishResult
from tidings.receipts import BatchFailed


class Collected:
    """What a batch collects: at most `batch_max` publications, more is refused (TooLarge).

    Data is encoded when it is added, so that an error shows up where it was made and a later
    change of the object changes nothing. `results` is filled when the batch ends: one Receipt or
    error per publication, in order; a call for several channels makes one for each.
    """

    def __init__(self, builder: PublicationBuilder, batch_max: int) -> None:
        self.results: list[PublishResult] = []
        self._builder = builder
        self._batch_max = batch_max
        self._items: list[OutgoingPublication] = []
        self._open = False

    def emit(
        self,
        event: str,
        data: object = None,
        *,
        channel: str | None = None,
        channels: Iterable[str] | None = None,
        user: str | None = None,
        id: str | None = None,
        ack: bool = False,
    ) -> None:
        """Add what `Emitter.emit` would send.

        Raises:
            CallerError: as `Emitter.emit`; TooLarge also for a full batch.
        """
        self._add(self._builder.build_event(event, data, channel=channel, channels=channels, user=user, id=id, ack=ack))

    def push_model(
        self,
        obj: object,
        *,
        channel: str | None = None,
        channels: Iterable[str] | None = None,
        user: str | None = None,
        **shape: Unpack[ModelOptions],
    ) -> None:
        """Add what `Emitter.push_model` would send.

        Raises:
            CallerError: as `Emitter.push_model`; TooLarge also for a full batch.
        """
        self._add(self._builder.build_model(obj, shape, channel=channel, channels=channels, user=user))

    def begin(self) -> Self:
        """What entering the `with` block does, for who learns only later whether to send: then `send` or `drop`.

        Raises:
            BadRequest: it was begun before.
        """
        if self._open or self.results:
            raise BadRequest("a batch is for one `with` block; make a new one with batch()")
        self._open = True
        return self

    def drop(self) -> None:
        """Forget what was collected; nothing of it is sent."""
        self._open = False
        self._items = []

    @property
    def channels(self) -> list[str]:
        """The channel of each publication, in the order of `results`."""
        return [item.channel for item in self._items]

    def __len__(self) -> int:
        """How many publications it holds."""
        return len(self._items)

    def _add(self, items: list[OutgoingPublication]) -> None:
        if not self._open:
            raise BadRequest("a batch collects only inside its `with` block; make a new one with batch()")
        if len(self._items) + len(items) > self._batch_max:
            raise TooLarge(f"a batch of more than {self._batch_max} publications; send several, or raise batch_max")
        self._items += items

    def _end(self) -> list[OutgoingPublication]:
        """What is to be sent now: nothing the second time."""
        items = self._items if self._open else []
        self._open = False
        return items

    def _settle(self, sent: list[OutgoingPublication], answers: list[PublishResult]) -> None:
        self.results = without_own_duplicates(sent, answers)
        failures = [result for result in self.results if isinstance(result, TidingsError)]
        if failures:
            raise BatchFailed(self.results) from failures[0]


class Batch(Collected):
    """`with emitter.batch() as batch:`; sent at the end of the block, nothing if it raises.

    Leaving the block raises BatchFailed if any publication was not taken.
    """

    def __init__(
        self,
        builder: PublicationBuilder,
        batch_max: int,
        publish: Callable[[list[OutgoingPublication]], list[PublishResult]],
    ) -> None:
        super().__init__(builder, batch_max)
        self._publish = publish

    def send(self) -> None:
        """Send what was collected. BatchFailed if any publication was not taken."""
        if items := self._end():
            self._settle(items, self._publish(items))

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
    """`async with emitter.batch() as batch:`; otherwise as `Batch`. Adding does not await."""

    def __init__(
        self,
        builder: PublicationBuilder,
        batch_max: int,
        publish: Callable[[list[OutgoingPublication]], Awaitable[list[PublishResult]]],
    ) -> None:
        super().__init__(builder, batch_max)
        self._publish = publish

    async def send(self) -> None:
        """Send what was collected. BatchFailed if any publication was not taken."""
        if items := self._end():
            self._settle(items, await self._publish(items))

    async def __aenter__(self) -> Self:
        return self.begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.send()
        else:
            self.drop()
