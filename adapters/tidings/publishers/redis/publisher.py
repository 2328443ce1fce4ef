"""Publishing to Redis: one Lua call per up to 100 publications or notifications, one round trip per batch.

`RedisPublisher` works in threads, after a fork, and under gevent or eventlet: it has no thread, lock or event loop.
`AsyncRedisPublisher` does the same for asyncio. Both do the I/O for `RedisBatch`, which decides what to send and what
to retry.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from tidings.errors import TidingsError, TimedOut, Unavailable
from tidings.publishers.base import CLOSED, NotifyResult, OutgoingNotification, OutgoingPublication, PublishResult
from tidings.publishers.redis.batch import NOTIFY, PUBLISH, RedisBatch, ScriptCall
from tidings.publishers.redis.notify_call import notify_script
from tidings.publishers.redis.presence_query import pack_members, read_presence
from tidings.publishers.retry_state import Item, Proof
from tidings.redis_client.async_connection import AsyncRedisPool
from tidings.redis_client.connection import ConnectionLost, RedisPool, has_lost_script
from tidings.redis_client.keys import DEFAULT_PREFIX, RedisKeys
from tidings.redis_client.queries import (
    Dialogue,
    RoundTrip,
    command_dialogue,
    history_dialogue,
    nodes_script,
    pack_nodes,
    read_nodes,
    store_revocation,
)
from tidings.redis_client.scripts import pack_load, publish_script
from tidings.redis_client.url import RedisAddress
from tidings.wire.control import Command, CommandResult, History, NodeRecord, NodeReplies, command_result
from tidings.wire.cursor import Cursor
from tidings.wire.presence import Presence
from tidings.wire.reports import Report, ReportQuery, merge_reports


class RedisPublisher:
    """A `HubPublisher` for redis://, rediss://, unix:// and redis+sentinel:// URLs. Connects at the first call.

    For one bucket of a cluster, pass the bucket's address and `keys`.

    Raises:
        BadConfig: an invalid URL or prefix. MissingExtra: redis-py is not installed.
    """

    def __init__(self, url: str | RedisAddress, *, prefix: str = DEFAULT_PREFIX, keys: RedisKeys | None = None) -> None:
        self._keys = keys or RedisKeys(prefix)
        self._pool = RedisPool(url if isinstance(url, RedisAddress) else RedisAddress.open(url))
        # Their first use imports modules, and a fork during an import hangs the child.
        publish_script()
        notify_script()
        self._closed = False

    def publish(self, items: Sequence[OutgoingPublication], *, timeout_s: float) -> list[PublishResult]:
        """See `Publisher.publish`."""
        target = str(self._pool.address)
        return self._send(RedisBatch(PUBLISH, items, self._keys, target, timeout_s=timeout_s, now_s=time.monotonic()))

    def notify(self, items: Sequence[OutgoingNotification], *, timeout_s: float) -> list[NotifyResult]:
        """See `Notifier.notify`. The receipts say "accepted": they are in the stream of the notification service."""
        target = str(self._pool.address)
        return self._send(RedisBatch(NOTIFY, items, self._keys, target, timeout_s=timeout_s, now_s=time.monotonic()))

    def _send(self, batch: RedisBatch[Item, Proof]) -> list[Proof | TidingsError]:
        pause_s = self.pause_s(batch)
        while pause_s is not None:
            if pause_s:
                time.sleep(pause_s)
            self.attempt(batch, batch.deadline_s)
            pause_s = self.pause_s(batch)
        return batch.results()

    # One step at a time, for a publisher to several buckets

    def begin(self, call: ScriptCall[Item, Proof], items: Sequence[Item], timeout_s: float) -> RedisBatch[Item, Proof]:
        """A batch of which nothing was sent yet."""
        target = str(self._pool.address)
        return RedisBatch(call, items, self._keys, target, timeout_s=timeout_s, now_s=time.monotonic())

    def attempt(self, batch: RedisBatch[Item, Proof], deadline_s: float) -> None:
        """Send all open items of the batch in one round trip that ends by `deadline_s`."""
        packed, count = batch.request()
        try:
            batch.on_replies(self._pool.call(packed, count, (batch.script(),), deadline_s=deadline_s))
        except ConnectionLost as error:
            # The other idle connections went to the same Redis, and are most likely broken too.
            self._pool.close()
            batch.fail(str(error), sent=error.sent, final=error.final)

    def pause_s(self, batch: RedisBatch[Item, Proof]) -> float | None:
        """See `RetryState.pause_s`."""
        if self._closed:
            batch.close()
        return batch.pause_s(time.monotonic())

    def send_command(self, command: Command, *, timeout_s: float, accept_s: float | None = None) -> CommandResult:
        """See `NodeQueries.send_command`. `accept_s`: the longest wait until Redis has accepted it."""
        return command_result(self._request_nodes(command, timeout_s, accept_s))

    def store_revocation(self, command: Command, *, timeout_s: float) -> None:
        """Store the revocation of a command that another bucket has accepted."""
        self._call(store_revocation(self._keys, command, timeout_s=timeout_s))

    def report(self, query: ReportQuery, *, timeout_s: float) -> Report:
        """See `NodeQueries.report`. If no node has a report, the publication has reached no client."""
        return merge_reports(query, self._request_nodes(query.to_command(), timeout_s))

    def _request_nodes(self, command: Command, timeout_s: float, accept_s: float | None = None) -> NodeReplies:
        replies: NodeReplies = self._run(
            command_dialogue(self._keys, command, timeout_s=timeout_s, now_s=time.monotonic, accept_s=accept_s)
        )
        return replies

    def history(self, channel: str, *, since: Cursor | None, limit: int, timeout_s: float) -> History:
        """See `NodeQueries.history`."""
        page: History = self._run(history_dialogue(self._keys, channel, since, limit=limit, timeout_s=timeout_s))
        return page

    def nodes(self, *, timeout_s: float) -> list[NodeRecord]:
        """See `NodeQueries.nodes`."""
        return read_nodes(self._call(RoundTrip(pack_nodes(self._keys), 1, (nodes_script(),), timeout_s))[0])

    def presence(self, channel: str, *, limit: int, timeout_s: float) -> Presence:
        """See `NodeQueries.presence`."""
        trip = RoundTrip(pack_members(self._keys, channel, limit=limit), 1, (), timeout_s)
        return read_presence(channel, self._call(trip)[0])

    def _run(self, dialogue: Dialogue) -> Any:
        """The value that a dialogue returns."""
        trip = next(dialogue)
        while True:
            replies = self._call(trip)
            try:
                trip = dialogue.send(replies)
            except StopIteration as end:
                return end.value

    def _call(self, trip: RoundTrip) -> list[Any]:
        """The replies of one round trip. Tried a second time if the connection broke or Redis lost the script."""
        deadline_s = time.monotonic() + trip.timeout_s
        for is_last in (False, True):
            if self._closed:
                raise Unavailable(CLOSED)
            try:
                replies = self._pool.call(trip.packed, trip.count, trip.scripts, deadline_s=deadline_s)
            except ConnectionLost as error:
                self._pool.close()
                if is_last or not error.sent or time.monotonic() >= deadline_s:
                    raise (TimedOut if error.sent else Unavailable)(str(error)) from error
            else:
                if is_last or not has_lost_script(replies):
                    return replies
        raise Unavailable("Redis lost the script twice")

    def close(self) -> None:
        """See `Publisher.close`."""
        self._closed = True
        self._pool.close()


class AsyncRedisPublisher:
    """An `AsyncHubPublisher` for the same URLs, on `redis.asyncio`. One event loop per object."""

    def __init__(self, url: str | RedisAddress, *, prefix: str = DEFAULT_PREFIX, keys: RedisKeys | None = None) -> None:
        self._keys = keys or RedisKeys(prefix)
        self._pool = AsyncRedisPool(url if isinstance(url, RedisAddress) else RedisAddress.open(url))
        # Their first use imports modules, and a fork during an import hangs the child.
        publish_script()
        notify_script()
        self._closed = False

    async def publish(self, items: Sequence[OutgoingPublication], *, timeout_s: float) -> list[PublishResult]:
        """See `Publisher.publish`. A cancelled publish may or may not have happened."""
        target = str(self._pool.address)
        batch = RedisBatch(PUBLISH, items, self._keys, target, timeout_s=timeout_s, now_s=time.monotonic())
        pause_s = self._pause_s(batch)
        while pause_s is not None:
            if pause_s:
                await asyncio.sleep(pause_s)
            try:
                batch.on_replies(await self._pool.call(*batch.request(), batch.deadline_s))
            except ConnectionLost as error:
                await self._pool.drop_idle()
                batch.fail(str(error), sent=error.sent, final=error.final)
            pause_s = self._pause_s(batch)
        return batch.results()

    async def notify(self, items: Sequence[OutgoingNotification], *, timeout_s: float) -> list[NotifyResult]:
        """See `Notifier.notify`. A cancelled call may or may not have happened."""
        target = str(self._pool.address)
        batch = RedisBatch(NOTIFY, items, self._keys, target, timeout_s=timeout_s, now_s=time.monotonic())
        pause_s = self._pause_s(batch)
        while pause_s is not None:
            if pause_s:
                await asyncio.sleep(pause_s)
            packed, count = batch.request()
            try:
                # These connections know only publish.lua. The first reply is that of the load.
                replies = await self._pool.call(pack_load(notify_script()) + packed, count + 1, batch.deadline_s)
                batch.on_replies(replies[1:])
            except ConnectionLost as error:
                await self._pool.drop_idle()
                batch.fail(str(error), sent=error.sent, final=error.final)
            pause_s = self._pause_s(batch)
        return batch.results()

    def _pause_s(self, batch: RedisBatch[Item, Proof]) -> float | None:
        if self._closed:
            batch.close()
        return batch.pause_s(time.monotonic())

    async def send_command(self, command: Command, *, timeout_s: float, accept_s: float | None = None) -> CommandResult:
        """See `NodeQueries.send_command`. `accept_s`: the longest wait until Redis has accepted it."""
        return command_result(await self._request_nodes(command, timeout_s, accept_s))

    async def store_revocation(self, command: Command, *, timeout_s: float) -> None:
        """Store the revocation of a command that another bucket has accepted."""
        await self._call(store_revocation(self._keys, command, timeout_s=timeout_s))

    async def report(self, query: ReportQuery, *, timeout_s: float) -> Report:
        """See `NodeQueries.report`."""
        return merge_reports(query, await self._request_nodes(query.to_command(), timeout_s))

    async def _request_nodes(self, command: Command, timeout_s: float, accept_s: float | None = None) -> NodeReplies:
        replies: NodeReplies = await self._run(
            command_dialogue(self._keys, command, timeout_s=timeout_s, now_s=time.monotonic, accept_s=accept_s)
        )
        return replies

    async def history(self, channel: str, *, since: Cursor | None, limit: int, timeout_s: float) -> History:
        """See `NodeQueries.history`."""
        page: History = await self._run(history_dialogue(self._keys, channel, since, limit=limit, timeout_s=timeout_s))
        return page

    async def nodes(self, *, timeout_s: float) -> list[NodeRecord]:
        """See `NodeQueries.nodes`."""
        return read_nodes((await self._call(RoundTrip(pack_nodes(self._keys), 1, (nodes_script(),), timeout_s)))[0])

    async def presence(self, channel: str, *, limit: int, timeout_s: float) -> Presence:
        """See `NodeQueries.presence`."""
        trip = RoundTrip(pack_members(self._keys, channel, limit=limit), 1, (), timeout_s)
        return read_presence(channel, (await self._call(trip))[0])

    async def _run(self, dialogue: Dialogue) -> Any:
        """The value that a dialogue returns."""
        trip = next(dialogue)
        while True:
            replies = await self._call(trip)
            try:
                trip = dialogue.send(replies)
            except StopIteration as end:
                return end.value

    async def _call(self, trip: RoundTrip) -> list[Any]:
        """The replies of one round trip. Tried a second time if the connection broke."""
        deadline_s = time.monotonic() + trip.timeout_s
        # These connections know only publish.lua: other scripts are loaded with each call.
        loads = b"".join([pack_load(script) for script in trip.scripts])
        for is_last in (False, True):
            if self._closed:
                raise Unavailable(CLOSED)
            try:
                replies = await self._pool.call(loads + trip.packed, len(trip.scripts) + trip.count, deadline_s)
            except ConnectionLost as error:
                await self._pool.drop_idle()
                if is_last or not error.sent or time.monotonic() >= deadline_s:
                    raise (TimedOut if error.sent else Unavailable)(str(error)) from error
            else:
                return replies[len(trip.scripts) :]
        raise Unavailable("Redis cannot be reached")

    async def close(self) -> None:
        """See `Publisher.close`."""
        self._closed = True
        await self._pool.close()
