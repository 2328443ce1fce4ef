"""Publishers into this process's memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tidings.errors import Unavailable
from tidings.publishers.base import CLOSED, NotifyResult, OutgoingNotification, OutgoingPublication, PublishResult
from tidings.publishers.memory.store import MemoryStore, open_store
from tidings.wire.control import Command, CommandResult, History, NodeRecord, command_result
from tidings.wire.cursor import Cursor
from tidings.wire.presence import Presence
from tidings.wire.reports import Report, ReportQuery, merge_reports


class MemoryPublisher:
    """A `HubPublisher` into this process's memory. `store` contains the publications."""

    def __init__(self, url: str = "memory://", *, store: MemoryStore | None = None) -> None:
        self.store = store or open_store(url)
        self._closed = False

    def publish(self, items: Sequence[OutgoingPublication], *, timeout_s: float) -> list[PublishResult]:
        """See `Publisher.publish`. It never waits, so `timeout_s` is not used."""
        del timeout_s
        if self._closed:
            return [Unavailable(CLOSED) for _ in items]
        return [self.store.publish(item) for item in items]

    def notify(self, items: Sequence[OutgoingNotification], *, timeout_s: float) -> list[NotifyResult]:
        """See `Notifier.notify`. It never waits, so `timeout_s` is not used."""
        del timeout_s
        if self._closed:
            return [Unavailable(CLOSED) for _ in items]
        return [self.store.notifications.add(item.notification) for item in items]

    def send_command(self, command: Command, *, timeout_s: float) -> CommandResult:
        """See `NodeQueries.send_command`."""
        self._check()
        return command_result(self.store.commands.request(command, timeout_s=timeout_s))

    def report(self, query: ReportQuery, *, timeout_s: float) -> Report:
        """See `NodeQueries.report`."""
        self._check()
        return merge_reports(query, self.store.commands.request(query.to_command(), timeout_s=timeout_s))

    def history(self, channel: str, *, since: Cursor | None, limit: int, timeout_s: float) -> History:
        """See `NodeQueries.history`."""
        del timeout_s
        self._check()
        position, publications = self.store.history(channel, since=since, limit=limit, newest=since is None)
        return History(str(position), [publication.to_wire() for publication in publications])

    def nodes(self, *, timeout_s: float) -> list[NodeRecord]:
        """See `NodeQueries.nodes`."""
        del timeout_s
        self._check()
        return self.store.commands.nodes()

    def presence(self, channel: str, *, limit: int, timeout_s: float) -> Presence:
        """See `NodeQueries.presence`."""
        del timeout_s
        self._check()
        return self.store.members(channel, limit=limit)

    def _check(self) -> None:
        if self._closed:
            raise Unavailable(CLOSED)

    def close(self) -> None:
        """See `Publisher.close`."""
        self._closed = True


class AsyncMemoryPublisher:
    """An `AsyncHubPublisher`: `MemoryPublisher` for asyncio."""

    def __init__(self, url: str = "memory://", *, store: MemoryStore | None = None) -> None:
        self._publisher = MemoryPublisher(url, store=store)
        self.store = self._publisher.store

    async def publish(self, items: Sequence[OutgoingPublication], *, timeout_s: float) -> list[PublishResult]:
        """See `Publisher.publish`."""
        return self._publisher.publish(items, timeout_s=timeout_s)

    async def notify(self, items: Sequence[OutgoingNotification], *, timeout_s: float) -> list[NotifyResult]:
        """See `Notifier.notify`."""
        return self._publisher.notify(items, timeout_s=timeout_s)

    async def send_command(self, command: Command, *, timeout_s: float) -> CommandResult:
        """See `NodeQueries.send_command`. It waits for nodes of this process, so it runs in a thread."""
        return await asyncio.to_thread(self._publisher.send_command, command, timeout_s=timeout_s)

    async def report(self, query: ReportQuery, *, timeout_s: float) -> Report:
        """See `NodeQueries.report`. As `send_command`, it runs in a thread."""
        return await asyncio.to_thread(self._publisher.report, query, timeout_s=timeout_s)

    async def history(self, channel: str, *, since: Cursor | None, limit: int, timeout_s: float) -> History:
        """See `NodeQueries.history`."""
        return self._publisher.history(channel, since=since, limit=limit, timeout_s=timeout_s)

    async def nodes(self, *, timeout_s: float) -> list[NodeRecord]:
        """See `NodeQueries.nodes`."""
        return self._publisher.nodes(timeout_s=timeout_s)

    async def presence(self, channel: str, *, limit: int, timeout_s: float) -> Presence:
        """See `NodeQueries.presence`."""
        return self._publisher.presence(channel, limit=limit, timeout_s=timeout_s)

    async def close(self) -> None:
        """See `Publisher.close`."""
        self._publisher.close()
