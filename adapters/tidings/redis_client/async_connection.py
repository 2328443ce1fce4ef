"""Connections to Redis for asyncio. The counterpart of `connection.py`, on `redis.asyncio`."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any

from tidings.redis_client.connection import CONNECT_TIMEOUT_S, IDLE_MAX, ConnectionLost, is_moved, reason_of
from tidings.redis_client.scripts import pack_load, publish_script
from tidings.redis_client.url import RedisAddress, redis_module


class AsyncRedisPool:
    """Connections to one Redis, for one event loop. Each new connection loads publish.lua.

    A connection whose call failed or was cancelled is closed: a late reply would be taken for that of another call.
    """

    def __init__(self, address: RedisAddress) -> None:
        self.address = address
        self._idle: deque[Any] = deque()
        self._closed = False

    async def call(self, packed: bytes, count: int, deadline_s: float) -> list[Any]:
        """The `count` replies to packed commands; an error reply is a `redis.ResponseError` in its place.

        `deadline_s` is a time of `time.monotonic`.

        Raises:
            ConnectionLost: the connection broke, or the deadline passed.
        """
        left_s = deadline_s - time.monotonic()
        connection = self._idle.pop() if self._idle else await self._connect(min(left_s, CONNECT_TIMEOUT_S))
        redis = redis_module()
        try:
            async with asyncio.timeout(deadline_s - time.monotonic()):
                replies = await self._exchange(connection, packed, count)
        except (redis.RedisError, OSError) as error:
            await connection.disconnect(nowait=True)
            raise ConnectionLost(f"{self.address} did not answer ({reason_of(error)})", sent=True) from error
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        if any(is_moved(reply) for reply in replies if isinstance(reply, Exception)):
            # The idle connections lead to the same node. A new one looks up the slot's master again.
            await connection.disconnect()
            await self.drop_idle()
        elif len(self._idle) < IDLE_MAX and not self._closed:
            self._idle.append(connection)
        else:
            await connection.disconnect()
        return replies

    async def close(self) -> None:
        """Close the idle connections, and the others after their current call.

        TLS waits for the reply of Redis: an event loop that ended before it would leave the transport open. redis-py
        gives up after its connect timeout.
        """
        self._closed = True
        idle, self._idle = self._idle, deque()
        # An idle connection carries no call: what goes wrong while it is closed loses nothing.
        await asyncio.gather(*(connection.disconnect() for connection in idle), return_exceptions=True)

    async def drop_idle(self) -> None:
        """Close the idle connections without waiting for the network."""
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)

    async def _connect(self, timeout_s: float) -> Any:
        redis = redis_module()
        if timeout_s <= 0:
            raise ConnectionLost(f"{self.address}: no time left to connect", sent=False)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._load_script(await self.address.connect_async(timeout_s=timeout_s))
        except (redis.exceptions.AuthenticationError, redis.exceptions.AuthorizationError) as error:
            raise ConnectionLost(f"{self.address} refused the login ({error})", sent=False, final=True) from error
        except (redis.RedisError, OSError) as error:
            raise ConnectionLost(f"{self.address} cannot be reached ({reason_of(error)})", sent=False) from error

    async def _load_script(self, connection: Any) -> Any:
        try:
            await connection.send_packed_command([pack_load(publish_script())], check_health=False)
            await connection.read_response(disable_decoding=True)
        except BaseException:
            # A Redis that is still loading replies with an error, and the connection stays open.
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
