"""Publishing straight into Redis: one Lua call per publication, one round trip per batch.

`RedisPublisher` works in threads, after a fork, and under gevent or eventlet: it has no thread, lock or
event loop of its own. `AsyncRedisPublisher` is the same for asyncio. Both are shells around `batch.Batch`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from tidings.errors import TimedOut, Unavailable
from tidings.publishers.base import Answer, Outgoing
from tidings.publishers.http.presence_query import pack_members, read_reply
from tidings.publishers.redis.batch import Batch
from tidings.redis_client.connection import CONNECT_TIMEOUT_S, IDLE_MAX, LineDown, Lines, no_script, reason_of, strays
from tidings.redis_client.keys import DEFAULT_PREFIX, Keys
from tidings.redis_client.queries import (
    Conversation,
    Step,
    ask_history,
    ask_nodes,
    nodes_script,
    pack_nodes,
    read_nodes,
)
from tidings.redis_client.scripts import pack_load, publish_script
from tidings.redis_client.url import Address, redis_module
from tidings.wire.control import Answers, Done, History, NodeRecord, Order, done
from tidings.wire.cursor import Cursor
from tidings.wire.presence import Presence
from tidings.wire.reports import Report, Sought, gathered


class RedisPublisher:
    """A `Publisher` for redis://, rediss://, unix:// and redis+sentinel:// URLs.

    Nothing is connected before the first publish. One bucket of a cluster is given by its address and `keys`.

    Raises:
        BadConfig: the URL or the prefix is none. MissingExtra: redis-py is not installed.
    """

    def __init__(self, url: str | Address, *, prefix: str = DEFAULT_PREFIX, keys: Keys | None = None) -> None:
        self._keys = keys or Keys(prefix)
        self._lines = Lines(url if isinstance(url, Address) else Address.parse(url))
        self._closed = False

    def publish(self, items: Sequence[Outgoing], *, timeout_s: float) -> list[Answer]:
        """See `Publisher.publish`."""
        batch = self.begin(items, timeout_s)
        pause_s = self.pause_s(batch)
        while pause_s is not None:
            if pause_s:
                time.sleep(pause_s)
            self.attempt(batch, batch.deadline_s)
            pause_s = self.pause_s(batch)
        return batch.answers()

    # One step at a time, for who publishes into several buckets

    def begin(self, items: Sequence[Outgoing], timeout_s: float) -> Batch:
        """A batch of which nothing was sent yet."""
        return Batch(items, self._keys, str(self._lines.address), timeout_s=timeout_s, now_s=time.monotonic())

    def attempt(self, batch: Batch, deadline_s: float) -> None:
        """One round trip with all that is open in the batch, at most until then."""
        packed, count = batch.request()
        try:
            batch.take(self._lines.call(packed, count, (publish_script(),), deadline_s=deadline_s))
        except LineDown as error:
            # The other idle connections went to the same Redis, and are most likely dead too.
            self._lines.close()
            batch.fail(str(error), sent=error.sent, final=error.final)

    def pause_s(self, batch: Batch) -> float | None:
        """See `Batch.pause_s`."""
        if self._closed:
            batch.fail("this publisher is closed", sent=False, final=True)
        return batch.pause_s(time.monotonic())

    def send_command(self, command: Order, *, timeout_s: float) -> Done:
        """See `NodeQueries.send_command`."""
        return done(self._ask(command, timeout_s))

    def report(self, sought: Sought, *, timeout_s: float) -> Report:
        """See `NodeQueries.report`. Where no node knows the publication, it has reached nobody."""
        return gathered(sought, self._ask(sought.order(), timeout_s))

    def _ask(self, order: Order, timeout_s: float) -> Answers:
        found: Answers = self._converse(ask_nodes(self._keys, order, timeout_s=timeout_s, now_s=time.monotonic))
        return found

    def history(self, channel: str, *, since: Cursor | None, limit: int, timeout_s: float) -> History:
        """See `NodeQueries.history`."""
        found: History = self._converse(ask_history(self._keys, channel, since, limit=limit, timeout_s=timeout_s))
        return found

    def nodes(self, *, timeout_s: float) -> list[NodeRecord]:
        """See `NodeQueries.nodes`."""
        return read_nodes(self._call(Step(pack_nodes(self._keys), 1, (nodes_script(),), timeout_s))[0])

    def presence(self, channel: str, *, limit: int, timeout_s: float) -> Presence:
        """See `NodeQueries.presence`."""
        step = Step(pack_members(self._keys, channel, limit=limit), 1, (), timeout_s)
        return read_reply(channel, self._call(step)[0])

    def _converse(self, conversation: Conversation) -> Any:
        step = next(conversation)
        while True:
            replies = self._call(step)
            try:
                step = conversation.send(replies)
            except StopIteration as end:
                return end.value

    def _call(self, step: Step) -> list[Any]:
        """The replies to one step; a connection that had died while it was idle is tried once more."""
        deadline_s = time.monotonic() + step.timeout_s
        for last in (False, True):
            if self._closed:
                raise Unavailable("this publisher is closed")
            try:
                replies = self._lines.call(step.packed, step.count, step.scripts, deadline_s=deadline_s)
            except LineDown as error:
                self._lines.close()
                if last or not error.sent or time.monotonic() >= deadline_s:
                    raise (TimedOut if error.sent else Unavailable)(str(error)) from error
            else:
                if last or not no_script(replies):
                    return replies
        raise Unavailable("Redis lost the script twice")

    def close(self) -> None:
        """See `Publisher.close`."""
        self._closed = True
        self._lines.close()


class AsyncRedisPublisher:
    """An `AsyncPublisher` for the same URLs, on `redis.asyncio`. One event loop per object."""

    def __init__(self, url: str | Address, *, prefix: str = DEFAULT_PREFIX, keys: Keys | None = None) -> None:
        self._keys = keys or Keys(prefix)
        self._address = url if isinstance(url, Address) else Address.parse(url)
        self._idle: deque[Any] = deque()
        self._closed = False

    async def publish(self, items: Sequence[Outgoing], *, timeout_s: float) -> list[Answer]:
        """See `AsyncPublisher.publish`. A cancelled publish may or may not have happened."""
        batch = Batch(items, self._keys, str(self._address), timeout_s=timeout_s, now_s=time.monotonic())
        pause_s = self._pause_s(batch)
        while pause_s is not None:
            if pause_s:
                await asyncio.sleep(pause_s)
            try:
                batch.take(await self._call(*batch.request(), batch.deadline_s))
            except LineDown as error:
                await self._forget_idle()
                batch.fail(str(error), sent=error.sent, final=error.final)
            pause_s = self._pause_s(batch)
        return batch.answers()

    def _pause_s(self, batch: Batch) -> float | None:
        if self._closed:
            batch.fail("this publisher is closed", sent=False, final=True)
        return batch.pause_s(time.monotonic())

    async def send_command(self, command: Order, *, timeout_s: float) -> Done:
        """See `NodeQueries.send_command`."""
        return done(await self._ask(command, timeout_s))

    async def report(self, sought: Sought, *, timeout_s: float) -> Report:
        """See `NodeQueries.report`."""
        return gathered(sought, await self._ask(sought.order(), timeout_s))

    async def _ask(self, order: Order, timeout_s: float) -> Answers:
        found: Answers = await self._converse(ask_nodes(self._keys, order, timeout_s=timeout_s, now_s=time.monotonic))
        return found

    async def history(self, channel: str, *, since: Cursor | None, limit: int, timeout_s: float) -> History:
        """See `NodeQueries.history`."""
        found: History = await self._converse(ask_history(self._keys, channel, since, limit=limit, timeout_s=timeout_s))
        return found

    async def nodes(self, *, timeout_s: float) -> list[NodeRecord]:
        """See `NodeQueries.nodes`."""
        return read_nodes((await self._step(Step(pack_nodes(self._keys), 1, (nodes_script(),), timeout_s)))[0])

    async def presence(self, channel: str, *, limit: int, timeout_s: float) -> Presence:
        """See `NodeQueries.presence`."""
        step = Step(pack_members(self._keys, channel, limit=limit), 1, (), timeout_s)
        return read_reply(channel, (await self._step(step))[0])

    async def _converse(self, conversation: Conversation) -> Any:
        step = next(conversation)
        while True:
            replies = await self._step(step)
            try:
                step = conversation.send(replies)
            except StopIteration as end:
                return end.value

    async def _step(self, step: Step) -> list[Any]:
        """As `RedisPublisher._call`."""
        deadline_s = time.monotonic() + step.timeout_s
        # Here a connection knows only the script that publishes: the others go along.
        loads = b"".join([pack_load(script) for script in step.scripts])
        for last in (False, True):
            if self._closed:
                raise Unavailable("this publisher is closed")
            try:
                replies = await self._call(loads + step.packed, len(step.scripts) + step.count, deadline_s)
            except LineDown as error:
                await self._forget_idle()
                if last or not error.sent or time.monotonic() >= deadline_s:
                    raise (TimedOut if error.sent else Unavailable)(str(error)) from error
            else:
                return replies[len(step.scripts) :]
        raise Unavailable("Redis cannot be reached")

    async def _call(self, packed: bytes, count: int, deadline_s: float) -> list[Any]:
        left_s = deadline_s - time.monotonic()
        connection = self._idle.pop() if self._idle else await self._connect(min(left_s, CONNECT_TIMEOUT_S))
        redis = redis_module()
        try:
            async with asyncio.timeout(deadline_s - time.monotonic()):
                replies = await self._exchange(connection, packed, count)
        except (redis.RedisError, OSError) as error:
            await connection.disconnect(nowait=True)
            raise LineDown(f"{self._address} did not answer ({reason_of(error)})", sent=True) from error
        except BaseException:
            # A late reply must not answer another question: the connection is never used again.
            await connection.disconnect(nowait=True)
            raise
        if any(strays(reply) for reply in replies if isinstance(reply, Exception)):
            # The idle ones lead to the same node; new ones ask the cluster for the way.
            await connection.disconnect()
            await self._forget_idle()
        elif len(self._idle) < IDLE_MAX and not self._closed:
            self._idle.append(connection)
        else:
            await connection.disconnect()
        return replies

    async def _connect(self, timeout_s: float) -> Any:
        redis = redis_module()
        if timeout_s <= 0:
            raise LineDown(f"{self._address}: no time left to connect", sent=False)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._greeted(await self._address.connect_async(timeout_s=timeout_s))
        except (redis.exceptions.AuthenticationError, redis.exceptions.AuthorizationError) as error:
            raise LineDown(f"{self._address} refused the login ({error})", sent=False, final=True) from error
        except (redis.RedisError, OSError) as error:
            raise LineDown(f"{self._address} cannot be reached ({reason_of(error)})", sent=False) from error

    async def _greeted(self, connection: Any) -> Any:
        try:
            await connection.send_packed_command([pack_load(publish_script())], check_health=False)
            await connection.read_response(disable_decoding=True)
        except BaseException:
            # A Redis that is still loading answers with an error, and the connection stays open.
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _exchange(self, connection: Any, packed: bytes, count: int) -> list[Any]:
        redis = redis_module()
        await connection.send_packed_command([packed], check_health=False)
        replies: list[Any] = []
        for _ in range(count):
            try:
                replies.append(await connection.read_response(disable_decoding=True))
            except redis.ResponseError as error:
                replies.append(error)
        if any(isinstance(reply, redis.exceptions.NoScriptError) for reply in replies):
            await connection.send_packed_command([pack_load(publish_script())], check_health=False)
            await connection.read_response(disable_decoding=True)
        return replies

    async def close(self) -> None:
        """See `AsyncPublisher.close`."""
        self._closed = True
        await self._forget_idle()

    async def _forget_idle(self) -> None:
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)
