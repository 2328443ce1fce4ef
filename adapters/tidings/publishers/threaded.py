"""Blocking publishers for asyncio, in threads of their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from tidings.errors import Unavailable
from tidings.publishers.base import (
    CLOSED,
    HubPublisher,
    Notifier,
    NotifyResult,
    OutgoingNotification,
    OutgoingPublication,
    Publisher,
    PublishResult,
)
from tidings.wire.control import Command, CommandResult, History, NodeRecord
from tidings.wire.cursor import Cursor
from tidings.wire.presence import Presence
from tidings.wire.reports import Report, ReportQuery

# Calls under way at once; others wait their turn.
THREADS_MAX = 16
T = TypeVar("T")


class _PublishingNotifier(Publisher, Notifier, Protocol):
    """A publisher that also takes notifications."""


class ThreadedPublisher:
    """An `AsyncPublisher` that runs a blocking one in threads, for drivers without an asyncio variant.

    At most `THREADS_MAX` calls run at the same time. Time spent waiting for a free thread counts towards `timeout_s`.
    A cancelled publish may still happen.
    """

    def __init__(self, publisher: Publisher, *, name: str) -> None:
        self._publisher = publisher
        self._closed = False
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix=f"tidings-{name}")

    async def publish(self, items: Sequence[OutgoingPublication], *, timeout_s: float) -> list[PublishResult]:
        """See `Publisher.publish`."""
        try:
            return await self._in_thread(self._publisher.publish, items, timeout_s=timeout_s)
        except Unavailable as error:
            return [error] * len(items)

    async def _in_thread(self, call: Callable[..., T], *args: object, timeout_s: float, **options: object) -> T:
        if self._closed:
            raise Unavailable(CLOSED)
        deadline_s = time.monotonic() + timeout_s

        def run() -> T:
            # The wait for a free thread counts.
            return call(*args, timeout_s=deadline_s - time.monotonic(), **options)

        try:
            result = asyncio.get_running_loop().run_in_executor(self._threads, run)
        except RuntimeError as error:
            raise Unavailable(
                "not sent: Python has begun to exit and starts no threads, because the main thread has ended;"
                " publish earlier, or use Emitter, which needs no threads"
            ) from error
        return await result

    async def close(self) -> None:
        """See `Publisher.close`."""
        self._closed = True
        self._publisher.close()
        self._threads.shutdown(wait=False)


class ThreadedNotifier(ThreadedPublisher):
    """As `ThreadedPublisher`, for a blocking publisher that also takes notifications."""

    def __init__(self, publisher: _PublishingNotifier, *, name: str) -> None:
        super().__init__(publisher, name=name)
        self._notifier = publisher

    async def notify(self, items: Sequence[OutgoingNotification], *, timeout_s: float) -> list[NotifyResult]:
        """See `Notifier.notify`."""
        try:
            return await self._in_thread(self._notifier.notify, items, timeout_s=timeout_s)
        except Unavailable as error:
            return [error] * len(items)


class ThreadedHubPublisher(ThreadedNotifier):
    """An `AsyncHubPublisher` that runs a blocking one in threads."""

    def __init__(self, publisher: HubPublisher, *, name: str) -> None:
        super().__init__(publisher, name=name)
        self._hub = publisher

    async def send_command(self, command: Command, *, timeout_s: float) -> CommandResult:
        """See `NodeQueries.send_command`."""
        return await self._in_thread(self._hub.send_command, command, timeout_s=timeout_s)

    async def history(self, channel: str, *, since: Cursor | None, limit: int, timeout_s: float) -> History:
        """See `NodeQueries.history`."""
        return await self._in_thread(self._hub.history, channel, since=since, limit=limit, timeout_s=timeout_s)

    async def report(self, query: ReportQuery, *, timeout_s: float) -> Report:
        """See `NodeQueries.report`."""
        return await self._in_thread(self._hub.report, query, timeout_s=timeout_s)

    async def nodes(self, *, timeout_s: float) -> list[NodeRecord]:
        """See `NodeQueries.nodes`."""
        return await self._in_thread(self._hub.nodes, timeout_s=timeout_s)

    async def presence(self, channel: str, *, limit: int, timeout_s: float) -> Presence:
        """See `NodeQueries.presence`."""
        return await self._in_thread(self._hub.presence, channel, limit=limit, timeout_s=timeout_s)
