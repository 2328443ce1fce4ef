"""Publishing to a Redis Cluster: each item goes to the bucket of its channel (PROTOCOL.md section 7).

The channel of a notification is the user's own.

A batch takes one round trip per bucket. Order is kept per channel, not between buckets. If the master of a bucket does
not reply, only the items of that bucket fail.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence

from tidings.errors import HubError, TidingsError, TimedOut
from tidings.publishers.base import (
    NotifyResult,
    Outgoing,
    OutgoingNotification,
    OutgoingPublication,
    PublishResult,
)
from tidings.publishers.redis.batch import NOTIFY, PUBLISH, ScriptCall
from tidings.publishers.redis.publisher import AsyncRedisPublisher, RedisPublisher
from tidings.publishers.retry_state import Item, Proof
from tidings.redis_client.buckets import bucket_of
from tidings.redis_client.keys import DEFAULT_PREFIX
from tidings.redis_client.topology import open_buckets
from tidings.wire.control import Command, CommandResult, History, NodeRecord
from tidings.wire.cursor import Cursor
from tidings.wire.presence import Presence, presence_channel
from tidings.wire.reports import Report, ReportQuery

logger = logging.getLogger("tidings.emitter")

# How long each of the other buckets may take to store it.
_STORE_S = 0.5


class ClusterPublisher:
    """A `HubPublisher` for redis+cluster:// and rediss+cluster:// URLs; otherwise as `RedisPublisher`.

    Raises:
        BadConfig: an invalid URL or prefix. MissingExtra: redis-py is not installed.
    """

    def __init__(self, url: str, *, prefix: str = DEFAULT_PREFIX) -> None:
        self._buckets = [RedisPublisher(bucket.address, keys=bucket.keys) for bucket in open_buckets(url, prefix)]

    def publish(self, items: Sequence[OutgoingPublication], *, timeout_s: float) -> list[PublishResult]:
        """See `Publisher.publish`."""
        return self._send(PUBLISH, items, timeout_s)

    def notify(self, items: Sequence[OutgoingNotification], *, timeout_s: float) -> list[NotifyResult]:
        """See `Notifier.notify`. Each bucket has a stream of its own."""
        return self._send(NOTIFY, items, timeout_s)

    def _send(
        self, call: ScriptCall[Item, Proof], items: Sequence[Item], timeout_s: float
    ) -> list[Proof | TidingsError]:
        shares = _share_out(items, len(self._buckets))
        batches = {
            bucket: self._buckets[bucket].begin(call, [items[index] for index in indexes], timeout_s)
            for bucket, indexes in shares.items()
        }
        end_s = time.monotonic() + timeout_s
        while pauses := {
            bucket: pause_s
            for bucket, batch in batches.items()
            if (pause_s := self._buckets[bucket].pause_s(batch)) is not None
        }:
            pause_s = min(pauses.values())
            if pause_s:
                time.sleep(pause_s)
            for remaining, bucket in zip(range(len(pauses), 0, -1), pauses, strict=True):
                # Each gets its share of the time: a master that hangs leaves the others theirs.
                now_s = time.monotonic()
                self._buckets[bucket].attempt(batches[bucket], now_s + (end_s - now_s) / remaining)
        return _merge(items, shares.values(), [batch.results() for batch in batches.values()])

    def send_command(self, command: Command, *, timeout_s: float) -> CommandResult:
        """See `NodeQueries.send_command`. A revocation takes the first bucket that accepts it.

        Each bucket gets its share of the time to accept it: one that hangs leaves the others theirs.
        """
        if command.revocation is None:
            return self._buckets[0].send_command(command, timeout_s=timeout_s)
        end_s, errors = time.monotonic() + timeout_s, list[HubError]()
        for number, bucket in enumerate(self._buckets):
            left_s = end_s - time.monotonic()
            accept_s = left_s / (len(self._buckets) - number)
            try:
                result = bucket.send_command(command, timeout_s=left_s, accept_s=accept_s)
            except HubError as error:
                errors.append(error)
                continue
            self._store_revocation(self._buckets[number + 1 :], command)
            return result
        # A bucket that did not reply in time may have it.
        raise next((error for error in errors if isinstance(error, TimedOut)), errors[0])

    def _store_revocation(self, buckets: Sequence[RedisPublisher], command: Command) -> None:
        """Store it in the other buckets as well. One that does not answer gets it from a node."""
        for bucket in buckets:
            try:
                bucket.store_revocation(command, timeout_s=_STORE_S)
            except HubError as error:
                logger.info("a bucket has not stored a revocation; a node will write it: %s", error)

    def report(self, query: ReportQuery, *, timeout_s: float) -> Report:
        """See `NodeQueries.report`."""
        return self._buckets[0].report(query, timeout_s=timeout_s)

    def nodes(self, *, timeout_s: float) -> list[NodeRecord]:
        """See `NodeQueries.nodes`."""
        return self._buckets[0].nodes(timeout_s=timeout_s)

    def history(self, channel: str, *, since: Cursor | None, limit: int, timeout_s: float) -> History:
        """See `NodeQueries.history`."""
        bucket = self._buckets[bucket_of(channel, len(self._buckets))]
        if since is not None and since.other_places:
            since = _in_bucket(since, bucket.history(channel, since=None, limit=1, timeout_s=timeout_s))
        return bucket.history(channel, since=since, limit=limit, timeout_s=timeout_s)

    def presence(self, channel: str, *, limit: int, timeout_s: float) -> Presence:
        """See `NodeQueries.presence`."""
        bucket = self._buckets[bucket_of(presence_channel(channel), len(self._buckets))]
        return bucket.presence(channel, limit=limit, timeout_s=timeout_s)

    def close(self) -> None:
        """See `Publisher.close`."""
        for bucket in self._buckets:
            bucket.close()


class AsyncClusterPublisher:
    """An `AsyncHubPublisher` for the same URLs. It publishes to all buckets at the same time."""

    def __init__(self, url: str, *, prefix: str = DEFAULT_PREFIX) -> None:
        self._buckets = [AsyncRedisPublisher(bucket.address, keys=bucket.keys) for bucket in open_buckets(url, prefix)]

    async def publish(self, items: Sequence[OutgoingPublication], *, timeout_s: float) -> list[PublishResult]:
        """See `Publisher.publish`. A cancelled publish may or may not have happened."""
        shares = _share_out(items, len(self._buckets))
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    self._buckets[bucket].publish([items[index] for index in indexes], timeout_s=timeout_s)
                )
                for bucket, indexes in shares.items()
            ]
        return _merge(items, shares.values(), [task.result() for task in tasks])

    async def notify(self, items: Sequence[OutgoingNotification], *, timeout_s: float) -> list[NotifyResult]:
        """See `Notifier.notify`. A cancelled call may or may not have happened."""
        shares = _share_out(items, len(self._buckets))
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    self._buckets[bucket].notify([items[index] for index in indexes], timeout_s=timeout_s)
                )
                for bucket, indexes in shares.items()
            ]
        return _merge(items, shares.values(), [task.result() for task in tasks])

    async def send_command(self, command: Command, *, timeout_s: float) -> CommandResult:
        """See `NodeQueries.send_command`. A revocation takes the first bucket that accepts it.

        Each bucket gets its share of the time to accept it: one that hangs leaves the others theirs.
        """
        if command.revocation is None:
            return await self._buckets[0].send_command(command, timeout_s=timeout_s)
        end_s, errors = time.monotonic() + timeout_s, list[HubError]()
        for number, bucket in enumerate(self._buckets):
            left_s = end_s - time.monotonic()
            accept_s = left_s / (len(self._buckets) - number)
            try:
                result = await bucket.send_command(command, timeout_s=left_s, accept_s=accept_s)
            except HubError as error:
                errors.append(error)
                continue
            await self._store_revocation(self._buckets[number + 1 :], command)
            return result
        # A bucket that did not reply in time may have it.
        raise next((error for error in errors if isinstance(error, TimedOut)), errors[0])

    async def _store_revocation(self, buckets: Sequence[AsyncRedisPublisher], command: Command) -> None:
        """Store it in the other buckets as well. One that does not answer gets it from a node."""
        for bucket in buckets:
            try:
                await bucket.store_revocation(command, timeout_s=_STORE_S)
            except HubError as error:
                logger.info("a bucket has not stored a revocation; a node will write it: %s", error)

    async def report(self, query: ReportQuery, *, timeout_s: float) -> Report:
        """See `NodeQueries.report`."""
        return await self._buckets[0].report(query, timeout_s=timeout_s)

    async def nodes(self, *, timeout_s: float) -> list[NodeRecord]:
        """See `NodeQueries.nodes`."""
        return await self._buckets[0].nodes(timeout_s=timeout_s)

    async def history(self, channel: str, *, since: Cursor | None, limit: int, timeout_s: float) -> History:
        """See `NodeQueries.history`."""
        bucket = self._buckets[bucket_of(channel, len(self._buckets))]
        if since is not None and since.other_places:
            since = _in_bucket(since, await bucket.history(channel, since=None, limit=1, timeout_s=timeout_s))
        return await bucket.history(channel, since=since, limit=limit, timeout_s=timeout_s)

    async def presence(self, channel: str, *, limit: int, timeout_s: float) -> Presence:
        """See `NodeQueries.presence`."""
        bucket = self._buckets[bucket_of(presence_channel(channel), len(self._buckets))]
        return await bucket.presence(channel, limit=limit, timeout_s=timeout_s)

    async def close(self) -> None:
        """See `Publisher.close`."""
        for bucket in self._buckets:
            await bucket.close()


def _in_bucket(since: Cursor, page: History) -> Cursor:
    """The part of a cursor for the bucket that `page` was read from."""
    epoch = Cursor.parse(page.cursor).epoch
    seq = since.seq_in(epoch)
    return since if seq is None else Cursor(epoch, seq)


def _share_out(items: Sequence[Outgoing], buckets: int) -> dict[int, list[int]]:
    """The indexes of the items for each bucket."""
    shares: dict[int, list[int]] = {}
    for index, item in enumerate(items):
        shares.setdefault(bucket_of(item.channel, buckets), []).append(index)
    return shares


def _merge(
    items: Sequence[object], shares: Iterable[Sequence[int]], results: Iterable[Sequence[Proof | TidingsError]]
) -> list[Proof | TidingsError]:
    """The results of all buckets, in the order of the items."""
    by_index = {
        index: result
        for indexes, bucket_results in zip(shares, results, strict=True)
        for index, result in zip(indexes, bucket_results, strict=True)
    }
    return [by_index[index] for index in range(len(items))]
