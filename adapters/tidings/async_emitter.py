"""`AsyncEmitter` publishes to the hub: `await emitter.emit("shipped", {"order": 42}, channel="orders:42")`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Self, Unpack, overload

from tidings.ack_wait import add_async_waiters
from tidings.async_node_requests import AsyncNodeRequests
from tidings.batch import AsyncBatch
from tidings.builder import (
    PublicationBuilder,
    async_receipts_or_raise,
    in_order_of,
    no_time_left,
    notification_receipts_or_raise,
    split_items,
    without_own_duplicates,
    without_own_repetitions,
)
from tidings.current_publisher import LoopPublishers
from tidings.errors import BadConfig
from tidings.models.describe import ModelOptions
from tidings.options import (
    BATCH_MAX,
    DEFAULT_PREFIX,
    DEFAULT_URL,
    NO_INBOX,
    TIMEOUT_S,
    NotificationOptions,
    Options,
    read_environment,
)
from tidings.publishers import open_async_publisher
from tidings.publishers.base import (
    AsyncNotifier,
    NotifyResult,
    Outgoing,
    OutgoingNotification,
    OutgoingPublication,
    OutgoingResult,
    PublishResult,
)

# sync: from tidings.publishers.base import Publisher
from tidings.receipts import AsyncReceipt, NotificationReceipt
from tidings.wire.payload import MAX_BYTES


class AsyncEmitter(AsyncNodeRequests):
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

    @overload
    async def notify(
        self, category: str, *, user: str, **options: Unpack[NotificationOptions]
    ) -> NotificationReceipt: ...
    @overload
    async def notify(
        self, category: str, *, users: Iterable[str], **options: Unpack[NotificationOptions]
    ) -> list[NotificationReceipt]: ...
    async def notify(
        self,
        category: str,
        *,
        user: str | None = None,
        users: Iterable[str] | None = None,
        **options: Unpack[NotificationOptions],
    ) -> NotificationReceipt | list[NotificationReceipt]:
        """Put a notification into the inbox of a user, or of up to 1,000 `users`.

        Options: `title`, `body`, `url`, `icon`, `data`, `id`, `group`, `expires_in_s`; see
        `options.NotificationOptions`. Title and body are text, not HTML.
        Returns a receipt; for `users` one per user, in order, without repetitions.

        Raises:
            CallerError: the call cannot succeed (BadRequest, BadChannel, BadData, BadId, TooLarge, UnknownCategory,
                Unauthorized, Forbidden, BadConfig); do not repeat it.
            Unavailable: it was not accepted.
            TimedOut: it may or may not be accepted; repeat it with the same `id`.
            BatchFailed: it was accepted for some of `users` only.
        """
        items = self._builder.build_notifications(category, user=user, users=users, **options)
        receipts = notification_receipts_or_raise(await self._notify(items, self._options.timeout_s))
        return receipts if users is not None else receipts[0]

    def batch(self) -> AsyncBatch:
        """Collect publications and send them in one round trip: `async with emitter.batch() as batch:`.

        Notifications take another one. Both share the time limit.
        """
        return AsyncBatch(self._builder, self._options.batch_max, self._publish, self._send_mixed)

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

    async def _notify(self, items: list[OutgoingNotification], timeout_s: float) -> list[NotifyResult]:
        results = await self._notifier().notify(items, timeout_s=timeout_s)
        return without_own_repetitions(items, results)

    async def _send_mixed(self, items: list[Outgoing]) -> list[OutgoingResult]:
        """The results of publications and notifications, in the order of the items."""
        self._notifier()
        publications, notifications = split_items(items)
        end_s = time.monotonic() + self._options.timeout_s
        published = await self._publish(publications) if publications else []
        left_s = end_s - time.monotonic()
        notified = await self._notify(notifications, left_s) if left_s > 0 else no_time_left(notifications)
        return in_order_of(items, published, notified)

    def _notifier(self) -> AsyncNotifier:
        """The publisher, if it takes notifications.

        Raises:
            BadConfig: it does not.
        """
        publisher = self._publisher.current
        if isinstance(publisher, AsyncNotifier):
            return publisher
        raise BadConfig(NO_INBOX)
