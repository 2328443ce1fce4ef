"""`AsyncEmitter`: `Emitter` for asyncio, `await emitter.emit("shipped", {"order": 42}, channel="orders:42")`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Self, Unpack, cast, overload

from tidings.ack_wait import reportable, wait_async
from tidings.batch import AsyncBatch
from tidings.builder import receipts_or_raise, without_own_duplicates
from tidings.errors import Unavailable
from tidings.models.registry import ModelOptions
from tidings.options import BATCH_MAX, DEFAULT_PREFIX, DEFAULT_URL, TIMEOUT_S, Options, read_environment
from tidings.publishers import open_async_publisher
from tidings.publishers.base import AsyncNodeQueries, AsyncPublisher, OutgoingPublication, PublishResult
from tidings.receipts import AsyncReceipt, Receipt
from tidings.wire import control
from tidings.wire.channels import check_channel
from tidings.wire.control import Done, History, NodeRecord, Order
from tidings.wire.payload import MAX_BYTES
from tidings.wire.presence import LIST_MAX, Presence
from tidings.wire.reports import Report, Sought


class AsyncEmitter:
    """`Emitter` with the same methods to `await`; settings, results and errors are the same.

    It may be used from several event loops, one after another (`asyncio.run` in a task queue) or
    in several threads: each has connections of its own, until `close` or the loop's end. A call that
    is cancelled may still be published.

    Raises:
        BadConfig: a setting that cannot be.
        MissingExtra: the URL needs a package that is not installed.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        prefix: str = DEFAULT_PREFIX,
        timeout_s: float = TIMEOUT_S,
        api_key: str | None = None,
        publication_max_bytes: int = MAX_BYTES,
        batch_max: int = BATCH_MAX,
    ) -> None:
        self._options = Options(
            url,
            prefix=prefix,
            timeout_s=timeout_s,
            api_key=api_key,
            publication_max_bytes=publication_max_bytes,
            batch_max=batch_max,
        )
        self._builder = self._options.builder()
        self.register = self._builder.registry.register
        self.rule = self._builder.registry.rule
        self._closed = False
        # Made now, so that a wrong URL is an error here; nothing connects before the first publish.
        self._spare = [self._opened()]
        self._publishers: dict[asyncio.AbstractEventLoop, AsyncPublisher] = {}

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """An emitter for `TIDINGS_URL` (default: Redis on this machine) and `TIDINGS_API_KEY`.

        Raises:
            BadConfig: the URL is not one that an emitter knows.
        """
        url, api_key = read_environment(environ)
        return cls(url, api_key=api_key)

    @overload
    async def emit(
        self, event: str, data: object = None, *, channel: str, id: str | None = None, ack: bool = False
    ) -> AsyncReceipt: ...
    @overload
    async def emit(
        self, event: str, data: object = None, *, user: str, id: str | None = None, ack: bool = False
    ) -> AsyncReceipt: ...
    @overload
    async def emit(
        self, event: str, data: object = None, *, channels: Iterable[str], id: str | None = None, ack: bool = False
    ) -> list[AsyncReceipt]: ...
    async def emit(
        self,
        event: str,
        data: object = None,
        *,
        channel: str | None = None,
        channels: Iterable[str] | None = None,
        user: str | None = None,
        id: str | None = None,
        ack: bool = False,
    ) -> AsyncReceipt | list[AsyncReceipt]:
        """Publish an event in one channel, in several, or in a user's own.

        `data` is what JSON can say, and datetimes, UUIDs, Decimals and enums (PROTOCOL.md
        section 3). `id` makes repeating safe: within 5 minutes the same id in the same channel
        is published once. Returns a Receipt; for `channels` one for each, in order. With `ack` clients
        acknowledge it, and the receipt can wait for that: `await receipt.wait(acks=1, timeout_s=5)`.

        Raises:
            CallerError: the call cannot succeed (BadChannel, BadEvent, BadData, BadId,
                TooLarge, UnknownNamespace, Unauthorized, Forbidden, BadConfig); do not repeat it.
            Unavailable: it was not published. TimedOut: nobody knows; repeat it with the same `id`.
            BatchFailed: it was published in some of `channels` only.
        """
        sent = self._builder.build_event(event, data, channel=channel, channels=channels, user=user, id=id, ack=ack)
        done = _awaited(receipts_or_raise(await self._publish(sent)))
        return done if channels is not None else done[0]

    @overload
    async def push_model(self, obj: object, *, channel: str, **shape: Unpack[ModelOptions]) -> AsyncReceipt: ...
    @overload
    async def push_model(self, obj: object, *, user: str, **shape: Unpack[ModelOptions]) -> AsyncReceipt: ...
    @overload
    async def push_model(
        self, obj: object, *, channels: Iterable[str] | None = None, **shape: Unpack[ModelOptions]
    ) -> list[AsyncReceipt]: ...
    async def push_model(
        self,
        obj: object,
        *,
        channel: str | None = None,
        channels: Iterable[str] | None = None,
        user: str | None = None,
        **shape: Unpack[ModelOptions],
    ) -> AsyncReceipt | list[AsyncReceipt]:
        """Publish the state of an object: event `updated_model` with `{"class", "model", "op", "version"}`.

        `obj` is a dataclass, a pydantic, SQLAlchemy or Django model, or has `to_dict()`. Without
        channels here, its class names them (`__channels__`, or `register`), and a list is returned.
        Options: `op` ("created", "updated", "deleted"), `fields`, `exclude`, `version`, `id`; see
        `models.Shape` and, for the version, `models.describe`. Exceptions of the object's own code pass.

        Raises:
            CallerError: as `emit`; BadData also if reading the object would be a database query.
            Unavailable, TimedOut, BatchFailed: as `emit`.
        """
        sent = self._builder.build_model(obj, shape, channel=channel, channels=channels, user=user)
        done = _awaited(receipts_or_raise(await self._publish(sent)))
        return done if channel is None and user is None else done[0]

    def batch(self) -> AsyncBatch:
        """Collect publications and send them in one round trip: `async with emitter.batch() as batch:`."""
        return AsyncBatch(self._builder, self._options.batch_max, self._publish)

    async def disconnect(self, *, user: str | None = None, connection: str | None = None) -> Done:
        """End all connections of a user, or one by its public id, on every node. They may come back: see `revoke`.

        Returns what was done on how many nodes; `missing` names those that live and did not answer in time.

        Raises:
            CallerError: not exactly one of the two, or no such name.
            Unavailable, TimedOut: no node was told; nobody knows.
        """
        return await self._send(control.disconnect(user=user, connection=connection))

    async def revoke(
        self,
        *,
        user: str | None = None,
        jti: str | None = None,
        for_s: float | None = None,
        until_s: float | None = None,
    ) -> Done:
        """Cut a user or one token off on every node, at once, for `for_s` seconds or until `until_s` (unix seconds).

        The broker remembers it: a node that did not hear it learns of it within its `canary_interval_s`.

        Raises:
            CallerError, Unavailable, TimedOut: as `disconnect`.
        """
        return await self._send(control.revoke(user=user, jti=jti, for_s=for_s, until_s=until_s, now_s=time.time()))

    async def subscribe(self, *, user: str, channel: str) -> Done:
        """Subscribe all live connections of a user to a channel, whatever their tokens cover.

        It holds as long as the connection: who comes back asks for the channel, and needs a token that covers it.

        Raises:
            CallerError, Unavailable, TimedOut: as `disconnect`; UnknownNamespace.
        """
        return await self._send(control.subscribe(user=user, channel=channel))

    async def unsubscribe(self, *, user: str, channel: str) -> Done:
        """Take a channel from all live connections of a user. A client that may subscribe to it can do so again.

        Raises:
            CallerError, Unavailable, TimedOut: as `disconnect`.
        """
        return await self._send(control.unsubscribe(user=user, channel=channel))

    async def history(self, channel: str, *, limit: int = control.PAGE, since: str | None = None) -> History:
        """Kept publications of a channel, oldest first: after the cursor `since` the first ones, without it the last.

        Raises:
            BadChannel, BadCursor, BadRequest, UnknownNamespace, Unavailable, TimedOut.
        """
        after = control.check_page(channel, since, limit)
        return await self._queries("history").history(
            channel, since=after, limit=limit, timeout_s=self._options.timeout_s
        )

    async def nodes(self) -> list[NodeRecord]:
        """Every node that lives, with its connections, sessions and channels as of a few seconds ago.

        Raises:
            Unavailable, TimedOut: nobody could say.
        """
        return await self._queries("nodes").nodes(timeout_s=self._options.timeout_s)

    async def presence(self, channel: str, *, limit: int = LIST_MAX) -> Presence:
        """Who is in a channel: `emitter.presence("room:1").members` is `info` by user, `.count` how many users.

        Of more than `limit` users (the hub's `presence_list_max` over HTTP) only `count` is given.

        Raises:
            BadChannel: not a channel. Forbidden: its namespace has no presence.
            Unavailable, TimedOut: no answer in time.
        """
        return await self._queries("presence").presence(
            check_channel(channel), limit=limit, timeout_s=self._options.timeout_s
        )

    async def close(self) -> None:
        """Give up the connections of this event loop. Publishing afterwards raises Unavailable."""
        self._closed = True
        await self._publisher().close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncEmitter({self._options.redacted_url()!r})"

    async def _publish(self, items: list[OutgoingPublication]) -> list[PublishResult]:
        answers = without_own_duplicates(items, await self._open().publish(items, timeout_s=self._options.timeout_s))
        for place, (item, answer) in enumerate(zip(items, answers, strict=True)):
            if found := reportable(item, answer):
                plain, sought = found
                answers[place] = receipt = AsyncReceipt(plain.id, plain.cursor, plain.duplicate)
                receipt.set_waiter(partial(wait_async, partial(self._report, sought), receipt.id))
        return answers

    async def _send(self, command: Order) -> Done:
        return await self._queries(command.do).send_command(command, timeout_s=self._options.timeout_s)

    async def _report(self, sought: Sought, timeout_s: float) -> Report:
        return await self._queries("report").report(sought, timeout_s=timeout_s)

    def _queries(self, operation: str) -> AsyncNodeQueries:
        """As `Emitter._queries`."""
        publisher = self._open()
        if isinstance(publisher, AsyncNodeQueries):
            return publisher
        raise self._options.no_replies(operation)

    def _open(self) -> AsyncPublisher:
        if self._closed:
            raise Unavailable("this emitter was closed; make a new one")
        return self._publisher()

    def _publisher(self) -> AsyncPublisher:
        """The publisher of the running event loop: its connections belong to that loop alone."""
        loop = asyncio.get_running_loop()
        publisher = self._publishers.get(loop)
        if publisher is None:
            # A loop that has ended cannot close its connections any more; forgetting them does. Weak keys
            # would not: a connection refers to its loop.
            for other in list(self._publishers):
                if other.is_closed():
                    self._publishers.pop(other, None)
            publisher = self._publishers[loop] = self._spare.pop() if self._spare else self._opened()
        return publisher

    def _opened(self) -> AsyncPublisher:
        options = self._options
        return open_async_publisher(options.url, prefix=options.prefix, api_key=options.api_key)


def _awaited(done: list[Receipt]) -> list[AsyncReceipt]:
    # Of publications that did not ask for acknowledgements they are plain ones: there `wait` raises at once.
    return cast("list[AsyncReceipt]", done)
