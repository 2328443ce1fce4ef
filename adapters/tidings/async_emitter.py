"""`AsyncEmitter` publishes to the hub: `await emitter.emit("shipped", {"order": 42}, channel="orders:42")`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Self, Unpack, overload

from tidings.ack_wait import add_async_waiters
from tidings.batch import AsyncBatch
from tidings.builder import PublicationBuilder, async_receipts_or_raise, without_own_duplicates
from tidings.current_publisher import LoopPublishers
from tidings.models.describe import ModelOptions
from tidings.options import BATCH_MAX, DEFAULT_PREFIX, DEFAULT_URL, TIMEOUT_S, Options, read_environment
from tidings.publishers import open_async_publisher
from tidings.publishers.base import AsyncNodeQueries, OutgoingPublication, PublishResult

# sync: from tidings.publishers.base import Publisher
from tidings.receipts import AsyncReceipt
from tidings.wire import control
from tidings.wire.channels import check_channel
from tidings.wire.control import Command, CommandResult, History, NodeRecord
from tidings.wire.payload import MAX_BYTES
from tidings.wire.presence import LIST_MAX, Presence
from tidings.wire.reports import Report, ReportQuery


class AsyncEmitter:
    """Publishes to the hub. Every call returns a receipt or raises, within `timeout_s` seconds.

    Only the look-up of a host's name may take longer, where the system's resolver does.

    `url` is one of these:

    - the hub's broker: `redis://`, `rediss://`, `redis+sentinel://`, `redis+cluster://`, `unix://`;
    - the hub itself: `http://` or `https://`, with `api_key`;
    - a queue that the hub reads: `amqp://`, `amqps://`, `kombu+<transport>://`. Its receipts have no cursor;
    - `memory://`: this process only, for tests;
    - `socketio+redis://`: Socket.IO servers on Node instead of a hub (docs/other-emitters.md).

    `prefix`: the broker's key prefix, the same as in the hub's settings.
    `publication_max_bytes`: larger data, as JSON, raises TooLarge.
    `batch_max`: a batch of more publications raises TooLarge.

    Create one emitter for the process. It connects at the first publish. Several event loops may use it, one after
    another (`asyncio.run` in a task queue) or in several threads: each has its own connections, until `close` or the
    end of the loop. A forked process runs a loop of its own: with that of its parent, a call raises BadConfig. A
    cancelled call may still be published. Without asyncio, use `Emitter`.

    Raises:
        BadConfig: an invalid setting.
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
        # sync: publisher: Publisher | None = None,
    ) -> None:
        self._options = Options(
            url,
            prefix=prefix,
            timeout_s=timeout_s,
            api_key=api_key,
            publication_max_bytes=publication_max_bytes,
            batch_max=batch_max,
        )
        self._builder = PublicationBuilder.for_emitter(self._options)
        self.register = self._builder.registry.register
        self.rule = self._builder.registry.rule
        open_by_url = partial(open_async_publisher, url, prefix=prefix, api_key=api_key)
        self._publisher = LoopPublishers(open_by_url)  # async
        # sync: self._publisher = ProcessPublisher(open_by_url if publisher is None else lambda: publisher)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """An emitter for `TIDINGS_URL` (default: Redis on this machine) and `TIDINGS_API_KEY`.

        Raises:
            BadConfig: the URL has an unknown scheme.
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
        """Publish an event in one channel, in several, or in a user's own channel.

        `data` is anything that JSON can represent, and datetimes, UUIDs, Decimals and enums (PROTOCOL.md section 3).
        `id` makes retries safe: within 5 minutes a repeated id in the same channel publishes nothing new.
        With `ack` clients acknowledge it, and the receipt can wait for that: `await receipt.wait(acks=1, timeout_s=5)`.
        Returns a receipt; for `channels` one per channel, in order.

        Raises:
            CallerError: the call cannot succeed (BadChannel, BadEvent, BadData, BadId, TooLarge, UnknownNamespace,
                Unauthorized, Forbidden, BadConfig); do not repeat it.
            Unavailable: it was not published.
            TimedOut: it may or may not be published; repeat it with the same `id`.
            BatchFailed: it was published in some of `channels` only.
        """
        items = self._builder.build_event(event, data, channel=channel, channels=channels, user=user, id=id, ack=ack)
        receipts = async_receipts_or_raise(await self._publish(items))
        return receipts if channels is not None else receipts[0]

    @overload
    async def push_model(self, obj: object, *, channel: str, **options: Unpack[ModelOptions]) -> AsyncReceipt: ...
    @overload
    async def push_model(self, obj: object, *, user: str, **options: Unpack[ModelOptions]) -> AsyncReceipt: ...
    @overload
    async def push_model(
        self, obj: object, *, channels: Iterable[str] | None = None, **options: Unpack[ModelOptions]
    ) -> list[AsyncReceipt]: ...
    async def push_model(
        self,
        obj: object,
        *,
        channel: str | None = None,
        channels: Iterable[str] | None = None,
        user: str | None = None,
        **options: Unpack[ModelOptions],
    ) -> AsyncReceipt | list[AsyncReceipt]:
        """Publish the state of an object: event `updated_model` with its class, fields, op and version.

        `obj` is a dataclass, a pydantic, SQLAlchemy or Django model, or has `to_dict()`. Without a channel here, its
        class names the channels (`__channels__`, or `register`), and the result is a list.
        Options: `op` ("created", "updated", "deleted"), `fields`, `exclude`, `version`, `id`. See
        `models.ModelOptions` and, for the version, `models.versions`. Exceptions of the object's own code pass.

        Raises:
            CallerError: as `emit`; BadData also if reading the object would need a database query.
            Unavailable, TimedOut, BatchFailed: as `emit`.
        """
        items = self._builder.build_model(obj, channel=channel, channels=channels, user=user, **options)
        receipts = async_receipts_or_raise(await self._publish(items))
        return receipts if channel is None and user is None else receipts[0]

    def batch(self) -> AsyncBatch:
        """Collect publications and send them in one round trip: `async with emitter.batch() as batch:`."""
        return AsyncBatch(self._builder, self._options.batch_max, self._publish)

    async def disconnect(self, *, user: str | None = None, connection: str | None = None) -> CommandResult:
        """Close all connections of a user, or one by its public id, on every node. Clients may reconnect: see `revoke`.

        The result counts connections and nodes. `missing` names live nodes that did not reply in time.

        Raises:
            CallerError: not exactly one of the two, or a malformed name.
            Unavailable: no node received the command. TimedOut: it may or may not have run.
        """
        return await self._send(control.disconnect(user=user, connection=connection))

    async def revoke(
        self,
        *,
        user: str | None = None,
        jti: str | None = None,
        for_s: float | None = None,
        until_s: float | None = None,
    ) -> CommandResult:
        """Lock out a user or one token on every node, at once, for `for_s` seconds or until `until_s` (unix seconds).

        The broker stores the revocation: a node that misses the command reads it within its `canary_interval_s`.

        Raises:
            CallerError, Unavailable, TimedOut: as `disconnect`.
        """
        return await self._send(control.revoke(user=user, jti=jti, for_s=for_s, until_s=until_s, now_s=time.time()))

    async def subscribe(self, *, user: str, channel: str) -> CommandResult:
        """Subscribe all live connections of a user to a channel, whatever their tokens cover.

        The subscription ends with the connection. After a reconnect the client needs a token that covers the channel.

        Raises:
            CallerError, Unavailable, TimedOut: as `disconnect`; UnknownNamespace.
        """
        return await self._send(control.subscribe(user=user, channel=channel))

    async def unsubscribe(self, *, user: str, channel: str) -> CommandResult:
        """Unsubscribe all live connections of a user from a channel. A client that may subscribe can do so again.

        Raises:
            CallerError, Unavailable, TimedOut: as `disconnect`.
        """
        return await self._send(control.unsubscribe(user=user, channel=channel))

    async def history(self, channel: str, *, limit: int = control.PAGE, since: str | None = None) -> History:
        """Stored publications of a channel, oldest first: the first `limit` after the cursor `since`, or the last ones.

        Raises:
            BadChannel, BadCursor, BadRequest, UnknownNamespace, Unavailable, TimedOut.
        """
        after = control.check_page(channel, since, limit)
        return await self._queries("history").history(
            channel, since=after, limit=limit, timeout_s=self._options.timeout_s
        )

    async def nodes(self) -> list[NodeRecord]:
        """Every live node, with its connections, sessions and channels as of a few seconds ago.

        Raises:
            Unavailable, TimedOut: no reply.
        """
        return await self._queries("nodes").nodes(timeout_s=self._options.timeout_s)

    async def presence(self, channel: str, *, limit: int = LIST_MAX) -> Presence:
        """The users in a channel. `members` of the result is `info` by user, `count` the number of users.

        For more than `limit` users (over HTTP: the hub's `presence_list_max`) `members` is None.

        Raises:
            BadChannel: not a channel. Forbidden: its namespace has no presence.
            Unavailable, TimedOut: no reply in time.
        """
        return await self._queries("presence").presence(
            check_channel(channel), limit=limit, timeout_s=self._options.timeout_s
        )

    async def close(self) -> None:
        """Close the connections of the running event loop. Publishing afterwards raises Unavailable."""
        await self._publisher.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncEmitter({self._options.redacted_url()!r})"

    async def _publish(self, items: list[OutgoingPublication]) -> list[PublishResult]:
        results = await self._publisher.current.publish(items, timeout_s=self._options.timeout_s)
        return add_async_waiters(items, without_own_duplicates(items, results), self._report)

    async def _send(self, command: Command) -> CommandResult:
        return await self._queries(command.name).send_command(command, timeout_s=self._options.timeout_s)

    async def _report(self, query: ReportQuery, timeout_s: float) -> Report:
        return await self._queries("report").report(query, timeout_s=timeout_s)

    def _queries(self, operation: str) -> AsyncNodeQueries:
        """The publisher, if nodes reply through it.

        Raises:
            BadConfig: the URL only takes publications; the message names `operation`.
        """
        publisher = self._publisher.current
        if isinstance(publisher, AsyncNodeQueries):
            return publisher
        raise self._options.no_replies(operation)
