"""Questions to Redis that wait for their answer, on connections of their own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from tidings.errors import TimedOut, Unavailable
from tidings.redis_client.connection import ConnectionLost, RedisPool
from tidings.redis_client.scripts import Script
from tidings.redis_client.url import RedisAddress
from tidings_hub.metrics import Metrics


class RedisCommands:
    """Commands to one Redis, for any number of greenlets."""

    def __init__(self, address: RedisAddress, *, timeout_s: float, metrics: Metrics) -> None:
        self._lines = RedisPool(address)
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
            if any(type(reply).__name__ == "NoScriptError" for reply in replies):
                # Somebody emptied the script cache. All of ours may be asked twice.
                replies = self._call(packed, count, scripts, deadline_s)
        except ConnectionLost as error:
            self._metrics.broker_timeouts += time.monotonic() >= deadline_s
            raise (TimedOut if error.sent else Unavailable)(str(error)) from error
        return replies

    def _call(self, packed: bytes, count: int, scripts: Sequence[Script], deadline_s: float) -> list[Any]:
        try:
            return self._lines.call(packed, count, scripts, deadline_s=deadline_s)
        except ConnectionLost as error:
            # Idle connections may have died long ago; one try on a fresh one tells.
            self._lines.close()
            if not error.sent or time.monotonic() >= deadline_s:
                raise
            return self._lines.call(packed, count, scripts, deadline_s=deadline_s)

    def close(self) -> None:
        """Close the idle connections."""
        self._lines.close()
