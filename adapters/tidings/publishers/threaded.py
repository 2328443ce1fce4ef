"""A blocking publisher for asyncio, in threads of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tidings.errors import Unavailable
from tidings.publishers.base import Answer, Outgoing, Publisher
from tidings.wire.control import Done, History, NodeRecord, Order
from tidings.wire.cursor import Cursor
from tidings.wire.presence import Presence
from tidings.wire.reports import Report, Sought

# Calls under way at once; others wait their turn.
THREADS_MAX = 16
T = TypeVar("T")


class ThreadedPublisher:
    """An `AsyncPublisher` around a blocking one, for drivers that asyncio has none of.

    What is awaited is one round trip, and a thread waits as well as a loop does; at most `THREADS_MAX` calls are
    under way at once, and those that wait use up their `timeout_s`. A publish that is cancelled may still happen.
    """

    def __init__(self, publisher: Publisher, *, name: str) -> None:
        self._publisher = publisher
        self._closed = False
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix=f"tidings-{name}")

    async def publish(self, items: Sequence[Outgoing], *, timeout_s: float) -> list[Answer]:
        """See `AsyncPublisher.publish`."""
        if self._closed:
            return [Unavailable("this publisher was closed; make a new one")] * len(items)
        return await self._in_thread(self._publisher.publish, items, timeout_s=timeout_s)

    async def order(self, order: Order, *, timeout_s: float) -> Done:
        """See `AsyncPublisher.order`."""
        return await self._in_thread(self._publisher.order, order, timeout_s=timeout_s)

    async def history(self, channel: str, *, since: Cursor | None, limit: int, timeout_s: float) -> History:
        """See `AsyncPublisher.history`."""
        return await self._in_thread(self._publisher.history, channel, since=since, limit=limit, timeout_s=timeout_s)

    async def report(self, sought: Sought, *, timeout_s: float) -> Report:
        """See `AsyncPublisher.report`."""
        return await self._in_thread(self._publisher.report, sought, timeout_s=timeout_s)

    async def nodes(self, *, timeout_s: float) -> list[NodeRecord]:
        """See `AsyncPublisher.nodes`."""
        return await self._in_thread(self._publisher.nodes, timeout_s=timeout_s)

    async def presence(self, channel: str, *, limit: int, timeout_s: float) -> Presence:
        """See `AsyncPublisher.presence`."""
        return await self._in_thread(self._publisher.presence, channel, limit=limit, timeout_s=timeout_s)

    async def _in_thread(self, ask: Callable[..., T], *args: object, timeout_s: float, **more: object) -> T:
        if self._closed:
            raise Unavailable("this publisher was closed; make a new one")
        deadline_s = time.monotonic() + timeout_s

        def run() -> T:
            # The wait for a free thread counts.
            return ask(*args, timeout_s=deadline_s - time.monotonic(), **more)

        return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    async def close(self) -> None:
        """See `AsyncPublisher.close`."""
        self._closed = True
        self._publisher.close()
        self._threads.shutdown(wait=False)
