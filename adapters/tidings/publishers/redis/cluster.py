"""Publishing into a Redis Cluster: every item goes to the bucket of its channel (PROTOCOL.md section 7).

A batch is one round trip per bucket. Order is kept per channel, not between buckets, and a bucket whose master
does not answer costs only its own items.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence

from tidings.publishers.base import OutgoingPublication, PublishResult
from tidings.publishers.redis.publisher import AsyncRedisPublisher, RedisPublisher
from tidings.redis_client.buckets import bucket_of
from tidings.redis_client.keys import DEFAULT_PREFIX
from tidings.redis_client.topology import open_buckets
from tidings.wire.control import Done, History, NodeRecord, Order
from tidings.wire.cursor import Cursor
from tidings.wire.presence import Presence, presence_channel
from tidings.wire.reports import Report, Sought


class ClusterPublisher:
    """A `Publisher` for redis+cluster:// and rediss+cluster:// URLs; otherwise as `RedisPublisher`.

    Raises:
        BadConfig: the URL or the prefix is none. MissingExtra: redis-py is not installed.
    """

    def __init__(self, url: str, *, prefix: str = DEFAULT_PREFIX) -> None:
        self._parts = [RedisPublisher(one.address, keys=one.keys) for one in open_buckets(url, prefix)]

    def publish(self, items: Sequence[OutgoingPublication], *, timeout_s: float) -> list[PublishResult]:
        """See `Publisher.publish`."""
        shares = _share_out(items, len(self._parts))
        batches = {
            bucket: self._parts[bucket].begin([items[index] for index in indexes], timeout_s)
            for bucket, indexes in shares.items()
        }
        end_s = time.monotonic() + timeout_s
        while pauses := {
            bucket: pause_s
            for bucket, batch in batches.items()
            if (pause_s := self._parts[bucket].pause_s(batch)) is not None
        }:
            pause_s = min(pauses.values())
            if pause_s:
                time.sleep(pause_s)
            for left, bucket in zip(range(len(pauses), 0, -1), pauses, strict=True):
                # A part of the time each: a master that hangs leaves the others theirs.
                now_s = time.monotonic()
                self._parts[bucket].attempt(batches[bucket], now_s + (end_s - now_s) / left)
        return _gathered(items, shares.values(), [batch.results() for batch in batches.values()])

    def send_command(self, command: Order, *, timeout_s: float) -> Done:
        """See `NodeQueries.send_command`."""
        return self._parts[0].send_command(command, timeout_s=timeout_s)

    def report(self, sought: Sought, *, timeout_s: float) -> Report:
        """See `NodeQueries.report`."""
        return self._parts[0].report(sought, timeout_s=timeout_s)

    def nodes(self, *, timeout_s: float) -> list[NodeRecord]:
        """See `NodeQueries.nodes`."""
        return self._parts[0].nodes(timeout_s=timeout_s)

    def history(self, channel: str, *, since: Cursor | None, limit: int, timeout_s: float) -> History:
        """See `NodeQueries.history`."""
        part = self._parts[bucket_of(channel, len(self._parts))]
        if since is not None and since.other_places:
            since = _own(since, part.history(channel, since=None, limit=1, timeout_s=timeout_s))
        return part.history(channel, since=since, limit=limit, timeout_s=timeout_s)

    def presence(self, channel: str, *, limit: int, timeout_s: float) -> Presence:
        """See `NodeQueries.presence`."""
        part = self._parts[bucket_of(presence_channel(channel), len(self._parts))]
        return part.presence(channel, limit=limit, timeout_s=timeout_s)

    def close(self) -> None:
        """See `Publisher.close`."""
        for part in self._parts:
            part.close()


class AsyncClusterPublisher:
    """An `AsyncPublisher` for the same URLs. The buckets are asked at the same time."""

    def __init__(self, url: str, *, prefix: str = DEFAULT_PREFIX) -> None:
        self._parts = [AsyncRedisPublisher(one.address, keys=one.keys) for one in open_buckets(url, prefix)]

    async def publish(self, items: Sequence[OutgoingPublication], *, timeout_s: float) -> list[PublishResult]:
        """See `AsyncPublisher.publish`. A cancelled publish may or may not have happened."""
        shares = _share_out(items, len(self._parts))
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._parts[bucket].publish([items[index] for index in indexes], timeout_s=timeout_s))
                for bucket, indexes in shares.items()
            ]
        return _gathered(items, shares.values(), [task.result() for task in tasks])

    async def send_command(self, command: Order, *, timeout_s: float) -> Done:
        """See `NodeQueries.send_command`."""
        return await self._parts[0].send_command(command, timeout_s=timeout_s)

    async def report(self, sought: Sought, *, timeout_s: float) -> Report:
        """See `NodeQueries.report`."""
        return await self._parts[0].report(sought, timeout_s=timeout_s)

    async def nodes(self, *, timeout_s: float) -> list[NodeRecord]:
        """See `NodeQueries.nodes`."""
        return await self._parts[0].nodes(timeout_s=timeout_s)

    async def history(self, channel: str, *, since: Cursor | None, limit: int, timeout_s: float) -> History:
        """See `NodeQueries.history`."""
        part = self._parts[bucket_of(channel, len(self._parts))]
        if since is not None and since.other_places:
            since = _own(since, await part.history(channel, since=None, limit=1, timeout_s=timeout_s))
        return await part.history(channel, since=since, limit=limit, timeout_s=timeout_s)

    async def presence(self, channel: str, *, limit: int, timeout_s: float) -> Presence:
        """See `NodeQueries.presence`."""
        part = self._parts[bucket_of(presence_channel(channel), len(self._parts))]
        return await part.presence(channel, limit=limit, timeout_s=timeout_s)

    async def close(self) -> None:
        """See `AsyncPublisher.close`."""
        for part in self._parts:
            await part.close()


def _own(since: Cursor, found: History) -> Cursor:
    """The place of a cursor in the bucket that a history was read from."""
    epoch = Cursor.parse(found.cursor).epoch
    seq = since.seq_in(epoch)
    return since if seq is None else Cursor(epoch, seq)


def _share_out(items: Sequence[OutgoingPublication], buckets: int) -> dict[int, list[int]]:
    """Which items, by their index, go to which bucket."""
    shares: dict[int, list[int]] = {}
    for index, item in enumerate(items):
        shares.setdefault(bucket_of(item.channel, buckets), []).append(index)
    return shares


def _gathered(
    items: Sequence[OutgoingPublication], shares: Iterable[Sequence[int]], answers: Iterable[Sequence[PublishResult]]
) -> list[PublishResult]:
    """The buckets' answers in the order of the items."""
    found = {
        index: answer
        for indexes, said in zip(shares, answers, strict=True)
        for index, answer in zip(indexes, said, strict=True)
    }
    return [found[index] for index in range(len(items))]
