"""A publisher that records publications and fails on request, over the memory publisher."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tidings.errors import TidingsError
from tidings.publishers.base import NotifyResult, OutgoingNotification, OutgoingPublication, PublishResult
from tidings.publishers.memory.publisher import MemoryPublisher
from tidings.wire.control import Command, CommandResult, History, NodeRecord
from tidings.wire.cursor import Cursor
from tidings.wire.notification import Notification
from tidings.wire.presence import Presence
from tidings.wire.publication import Publication
from tidings.wire.reports import Report, ReportQuery


@dataclass(frozen=True, slots=True)
class Pushed:
    """One publication as a browser receives it. `data` is parsed JSON, so a datetime is text."""

    channel: str
    event: str
    data: Any
    id: str
    cursor: str

    @classmethod
    def from_publication(cls, publication: Publication) -> Pushed:
        """From a publication of the memory store."""
        return cls(
            publication.channel,
            publication.event,
            json.loads(publication.data_json),
            publication.id,
            publication.cursor,
        )


@dataclass(frozen=True, slots=True)
class RecordedNotification:
    """One notification as the notification service receives it. `data` is parsed JSON; what is absent is None."""

    user: str
    category: str
    title: str
    body: str | None
    url: str | None
    icon: str | None
    data: Any
    id: str
    group: str | None
    at_ms: int
    expires_at_ms: int | None

    @classmethod
    def from_notification(cls, notification: Notification) -> RecordedNotification:
        """From a notification of the memory store."""
        return cls(
            user=notification.user,
            category=notification.category,
            title=notification.title,
            body=notification.body,
            url=notification.url,
            icon=notification.icon,
            data=None if notification.data_json is None else json.loads(notification.data_json),
            id=notification.id,
            group=notification.group,
            at_ms=notification.at_ms,
            expires_at_ms=notification.expires_at_ms,
        )


@dataclass(frozen=True, slots=True)
class _Fault:
    error: TidingsError
    takes_effect: bool


class RecordingPublisher:
    """A `HubPublisher` with its own store. It records everything that is published there, by any emitter."""

    def __init__(self, url: str) -> None:
        self._memory = MemoryPublisher(url)
        self.store = self._memory.store
        self.pushed: list[Pushed] = []
        self.notified: list[RecordedNotification] = []
        self.orders: list[Command] = []
        self._faults: deque[_Fault] = deque()
        self._lock = threading.Lock()
        self.store.add_listener(lambda publication: self.pushed.append(Pushed.from_publication(publication)))
        self.store.notifications.add_listener(
            lambda notification: self.notified.append(RecordedNotification.from_notification(notification))
        )

    def fail_next(self, error: TidingsError, *, times: int, takes_effect: bool) -> None:
        """Make the next `times` calls fail with `error`. With `takes_effect` they publish all the same."""
        with self._lock:
            self._faults.extend([_Fault(error, takes_effect)] * times)

    def clear(self) -> None:
        """Discard recorded publications, notifications, commands and pending faults."""
        with self._lock:
            self._faults.clear()
        self.pushed.clear()
        self.notified.clear()
        self.orders.clear()

    def publish(self, items: Sequence[OutgoingPublication], *, timeout_s: float) -> list[PublishResult]:
        """See `Publisher.publish`."""
        fault = self._fault()
        if fault is None:
            return self._memory.publish(items, timeout_s=timeout_s)
        if fault.takes_effect:
            self._memory.publish(items, timeout_s=timeout_s)
        return [fault.error] * len(items)

    def notify(self, items: Sequence[OutgoingNotification], *, timeout_s: float) -> list[NotifyResult]:
        """See `Notifier.notify`."""
        fault = self._fault()
        if fault is None:
            return self._memory.notify(items, timeout_s=timeout_s)
        if fault.takes_effect:
            self._memory.notify(items, timeout_s=timeout_s)
        return [fault.error] * len(items)

    def send_command(self, command: Command, *, timeout_s: float) -> CommandResult:
        """See `NodeQueries.send_command`. It affects no connection: there is none."""
        self._check()
        self.orders.append(command)
        return self._memory.send_command(command, timeout_s=timeout_s)

    def history(self, channel: str, *, since: Cursor | None, limit: int, timeout_s: float) -> History:
        """See `NodeQueries.history`."""
        self._check()
        return self._memory.history(channel, since=since, limit=limit, timeout_s=timeout_s)

    def report(self, query: ReportQuery, *, timeout_s: float) -> Report:
        """See `NodeQueries.report`. The publication reached no client: there is none."""
        self._check()
        return self._memory.report(query, timeout_s=timeout_s)

    def nodes(self, *, timeout_s: float) -> list[NodeRecord]:
        """See `NodeQueries.nodes`."""
        self._check()
        return self._memory.nodes(timeout_s=timeout_s)

    def presence(self, channel: str, *, limit: int, timeout_s: float) -> Presence:
        """See `NodeQueries.presence`."""
        self._check()
        return self._memory.presence(channel, limit=limit, timeout_s=timeout_s)

    def close(self) -> None:
        """See `Publisher.close`."""
        self._memory.close()

    def _check(self) -> None:
        fault = self._fault()
        if fault is not None:
            raise fault.error

    def _fault(self) -> _Fault | None:
        with self._lock:
            return self._faults.popleft() if self._faults else None
