"""`Emitter`: how a backend says "tell them", `emitter.emit("shipped", {"order": 42}, channel="orders:42")`."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Self, Unpack, overload

from tidings.ack_wait import reportable, wait
from tidings.batch import Batch
from tidings.builder import receipts_or_raise, without_own_duplicates
from tidings.models.registry import ModelOptions
from tidings.options import BATCH_MAX, DEFAULT_PREFIX, DEFAULT_URL, TIMEOUT_S, Options, read_environment
from tidings.publishers import open_publisher
from tidings.publishers.base import NodeQueries, OutgoingPublication, Publisher, PublishResult
from tidings.receipts import Receipt
from tidings.wire import control
from tidings.wire.channels import check_channel
from tidings.wire.control import Done, History, NodeRecord, Order
from tidings.wire.payload import MAX_BYTES
from tidings.wire.presence import LIST_MAX, Presence
from tidings.wire.reports import Report, Sought


class Emitter:
    """Publishes to the hub. Every call returns a receipt or raises, within `timeout_s` seconds.

    `url`: the hub's broker (`redis://`, `rediss://`, `redis+sentinel://`, `redis+cluster://`, `unix://`), the
    hub itself (`http://`, `https://`, with `api_key`), a queue that the hub takes publications from (`amqp://`,
    `amqps://`, `kombu+<transport>://`: receipts without a cursor), or `memory://` (this process only, for tests).
    `socketio+redis://` leads to Socket.IO servers on Node instead of a hub (docs/other-emitters.md).
    `prefix`: the broker's key prefix; the hub's setting must be the same.
    `publication_max_bytes`: data that is larger as JSON is refused (TooLarge).
    `batch_max`: more publications in one batch are refused (TooLarge).
    `publisher`: a way of your own to the hub; `url` is then only what `repr` shows.

    One emitter serves a whole process: threads and greenlets may share it, and a forked child
    opens connections of its own. It connects at the first publish. In asyncio use `AsyncEmitter`.

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
        publisher: Publisher | None = None,
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
        self._given = publisher
        self._connect()
        _EMITTERS.add(self)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """An emitter for `TIDINGS_URL` (default: Redis on this machine) and `TIDINGS_API_KEY`.

        Raises:
            BadConfig: the URL is not one that an emitter knows.
        """
        url, api_key = read_environment(environ)
        return cls(url, api_key=api_key)

    @overload
    def emit(
        self, event: str, data: object = None, *, channel: str, id: str | None = None, ack: bool = False
    ) -> Receipt: ...
    @overload
    def emit(
        self, event: str, data: object = None, *, user: str, id: str | None = None, ack: bool = False
    ) -> Receipt: ...
    @overload
    def emit(
        self, event: str, data: object = None, *, channels: Iterable[str], id: str | None = None, ack: bool = False
    ) -> list[Receipt]: ...
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
    ) -> Receipt | list[Receipt]:
        """Publish an event in one channel, in several, or in a user's own.

        `data` is what JSON can say, and datetimes, UUIDs, Decimals and enums (PROTOCOL.md
        section 3). `id` makes repeating safe: within 5 minutes the same id in the same channel
        is published once. Returns a Receipt; for `channels` one for each, in order. With `ack` clients
        acknowledge it, and the receipt can wait for that: `receipt.wait(acks=1, timeout_s=5)`.

        Raises:
            CallerError: the call cannot succeed (BadChannel, BadEvent, BadData, BadId,
                TooLarge, UnknownNamespace, Unauthorized, Forbidden, BadConfig); do not repeat it.
            Unavailable: it was not published. TimedOut: nobody knows; repeat it with the same `id`.
            BatchFailed: it was published in some of `channels` only.
        """
        sent = self._builder.build_event(event, data, channel=channel, channels=channels, user=user, id=id, ack=ack)
        done = receipts_or_raise(self._publish(sent))
        return done if channels is not None else done[0]

    @overload
    def push_model(self, obj: object, *, channel: str, **shape: Unpack[ModelOptions]) -> Receipt: ...
    @overload
    def push_model(self, obj: object, *, user: str, **shape: Unpack[ModelOptions]) -> Receipt: ...
    @overload
    def push_model(
        self, obj: object, *, channels: Iterable[str] | None = None, **shape: Unpack[ModelOptions]
    ) -> list[Receipt]: ...
    def push_model(
        self,
        obj: object,
        *,
        channel: str | None = None,
        channels: Iterable[str] | None = None,
        user: str | None = None,
        **shape: Unpack[ModelOptions],
    ) -> Receipt | list[Receipt]:
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
        done = receipts_or_raise(self._publish(sent))
        return done if channel is None and user is None else done[0]

    def batch(self) -> Batch:
        """Collect publications and send them in one round trip: `with emitter.batch() as batch:`."""
        return Batch(self._builder, self._options.batch_max, self._publish)

    def disconnect(self, *, user: str | None = None, connection: str | None = None) -> Done:
        """End all connections of a user, or one by its public id, on every node. They may come back: see `revoke`.

        Returns what was done on how many nodes; `missing` names those that live and did not answer in time.

        Raises:
            CallerError: not exactly one of the two, or no such name.
            Unavailable, TimedOut: no node was told; nobody knows.
        """
        return self._send(control.disconnect(user=user, connection=connection))

    def revoke(
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
        return self._send(control.revoke(user=user, jti=jti, for_s=for_s, until_s=until_s, now_s=time.time()))

    def subscribe(self, *, user: str, channel: str) -> Done:
        """Subscribe all live connections of a user to a channel, whatever their tokens cover.

        It holds as long as the connection: who comes back asks for the channel, and needs a token that covers it.

        Raises:
            CallerError, Unavailable, TimedOut: as `disconnect`; UnknownNamespace.
        """
        return self._send(control.subscribe(user=user, channel=channel))

    def unsubscribe(self, *, user: str, channel: str) -> Done:
        """Take a channel from all live connections of a user. A client that may subscribe to it can do so again.

        Raises:
            CallerError, Unavailable, TimedOut: as `disconnect`.
        """
        return self._send(control.unsubscribe(user=user, channel=channel))

    def history(self, channel: str, *, limit: int = control.PAGE, since: str | None = None) -> History:
        """Kept publications of a channel, oldest first: after the cursor `since` the first ones, without it the last.

        Raises:
            BadChannel, BadCursor, BadRequest, UnknownNamespace, Unavailable, TimedOut.
        """
        after = control.check_page(channel, since, limit)
        return self._queries("history").history(channel, since=after, limit=limit, timeout_s=self._options.timeout_s)

    def nodes(self) -> list[NodeRecord]:
        """Every node that lives, with its connections, sessions and channels as of a few seconds ago.

        Raises:
            Unavailable, TimedOut: nobody could say.
        """
        return self._queries("nodes").nodes(timeout_s=self._options.timeout_s)

    def presence(self, channel: str, *, limit: int = LIST_MAX) -> Presence:
        """Who is in a channel: `emitter.presence("room:1").members` is `info` by user, `.count` how many users.

        Of more than `limit` users (the hub's `presence_list_max` over HTTP) only `count` is given.

        Raises:
            BadChannel: not a channel. Forbidden: its namespace has no presence.
            Unavailable, TimedOut: no answer in time.
        """
        return self._queries("presence").presence(
            check_channel(channel), limit=limit, timeout_s=self._options.timeout_s
        )

    def close(self) -> None:
        """Give up the connections. Publishing afterwards raises Unavailable."""
        self._closed = True
        self._publisher.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Emitter({self._options.redacted_url()!r})"

    def _publish(self, items: list[OutgoingPublication]) -> list[PublishResult]:
        answers = without_own_duplicates(items, self._publisher.publish(items, timeout_s=self._options.timeout_s))
        for item, answer in zip(items, answers, strict=True):
            if found := reportable(item, answer):
                receipt, sought = found
                receipt.set_waiter(partial(wait, partial(self._report, sought), receipt.id))
        return answers

    def _send(self, command: Order) -> Done:
        return self._queries(command.do).send_command(command, timeout_s=self._options.timeout_s)

    def _report(self, sought: Sought, timeout_s: float) -> Report:
        return self._queries("report").report(sought, timeout_s=timeout_s)

    def _queries(self, operation: str) -> NodeQueries:
        """The publisher, for an operation that needs a reply.

        Raises:
            BadConfig: it only publishes, as to a queue or to Socket.IO servers.
        """
        if isinstance(self._publisher, NodeQueries):
            return self._publisher
        raise self._options.no_replies(operation)

    def _connect(self) -> None:
        options = self._options
        self._publisher = self._given or open_publisher(options.url, prefix=options.prefix, api_key=options.api_key)
        if self._closed:
            self._publisher.close()

    def _forked(self) -> None:
        """Leave the parent's connections alone: two processes on one connection would mix up their answers."""
        self._connect()


# A weak set: the hook below cannot be taken back, and must not keep emitters alive.
_EMITTERS: weakref.WeakSet[Emitter] = weakref.WeakSet()


def _after_fork() -> None:
    for emitter in list(_EMITTERS):
        emitter._forked()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
