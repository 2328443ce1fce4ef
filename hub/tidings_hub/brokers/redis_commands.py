"""Runs commands on Redis and waits for the replies, on a pool of connections."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from tidings.errors import TimedOut, Unavailable
from tidings.redis_client.connection import ConnectionLost, RedisPool, error_text, has_lost_script
from tidings.redis_client.scripts import Script
from tidings.redis_client.url import RedisAddress
from tidings_hub.metrics import Metrics


class RedisCommands:
    """Commands to one Redis, for any number of greenlets."""

    def __init__(self, address: RedisAddress, *, timeout_s: float, metrics: Metrics) -> None:
        self._pool = RedisPool(address)
        self._timeout_s = timeout_s
        self._metrics = metrics

    def run(
        self, packed: bytes, count: int = 1, scripts: Sequence[Script] = (), *, timeout_s: float | None = None
    ) -> list[Any]:
        """The replies to `count` packed commands; error replies are exceptions in their place.

        Raises:
            Unavailable, TimedOut: there was no answer within `timeout_s`, or a connection could not be made.
        """
        deadline_s = time.monotonic() + (timeout_s or self._timeout_s)
        try:
            replies = self._call(packed, count, scripts, deadline_s)
            if has_lost_script(replies):
                # The script cache was emptied. Every command that uses a script is safe to run twice.
                replies = self._call(packed, count, scripts, deadline_s)
        except ConnectionLost as error:
            self._metrics.broker_timeouts += time.monotonic() >= deadline_s
            raise (TimedOut if error.sent else Unavailable)(str(error)) from error
        return replies

    def run_checked(
        self, packed: bytes, count: int = 1, scripts: Sequence[Script] = (), *, timeout_s: float | None = None
    ) -> list[list[bytes]]:
        """As `run`, for commands whose reply is a list or of no interest.

        Raises:
            Unavailable, TimedOut: as `run`, or a reply is an error.
        """
        replies = self.run(packed, count, scripts, timeout_s=timeout_s)
        for reply in replies:
            if isinstance(reply, Exception):
                raise Unavailable(f"Redis rejected a command: {error_text(reply)}")
        return replies

    def _call(self, packed: bytes, count: int, scripts: Sequence[Script], deadline_s: float) -> list[Any]:
        try:
            return self._pool.call(packed, count, scripts, deadline_s=deadline_s)
        except ConnectionLost as error:
            # An idle connection may have broken long ago. One attempt on a new connection shows the difference.
            self._pool.close()
            if not error.sent or time.monotonic() >= deadline_s:
                raise
            return self._pool.call(packed, count, scripts, deadline_s=deadline_s)

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.close()
