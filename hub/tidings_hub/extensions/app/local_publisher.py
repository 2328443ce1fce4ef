"""The publisher of an `App`: it publishes through the node that runs the app."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from tidings.errors import TidingsError, Unavailable
from tidings.publishers.base import NotifyResult, OutgoingNotification, OutgoingPublication, PublishResult
from tidings.wire.control import Command, CommandResult, History, NodeRecord
from tidings.wire.cursor import Cursor
from tidings.wire.notification import Notification
from tidings.wire.presence import Presence
from tidings.wire.reports import Report, ReportQuery
from tidings_hub.services.api import NodeApi
from tidings_hub.services.backend_notifications import NOTIFICATIONS_MAX


class LocalPublisher:
    """A `HubPublisher`. Before `node` is set, which is so in any process but a hub, every call raises Unavailable.

    The time limit of a call is the node's `broker_timeout_s` unless it names another one; `timeout_s` is ignored.
    """

    def __init__(self) -> None:
        self.node: NodeApi | None = None
        self._closed = False

    def publish(self, items: Sequence[OutgoingPublication], *, timeout_s: float) -> list[PublishResult]:
        """See `Publisher.publish`."""
        try:
            return self._running().publish(items)
        except Unavailable as error:
            return [error for _ in items]

    def notify(self, items: Sequence[OutgoingNotification], *, timeout_s: float) -> list[NotifyResult]:
        """See `Notifier.notify`. The time limit of a request to the service is the node's `request_timeout_s`."""
        results: list[NotifyResult] = []
        for start in range(0, len(items), NOTIFICATIONS_MAX):
            part = items[start : start + NOTIFICATIONS_MAX]
            try:
                results += self._running().notifications.store(_by_content(part))
            except TidingsError as error:
                results += [error for _ in part]
        return results

    def send_command(self, command: Command, *, timeout_s: float) -> CommandResult:
        """See `NodeQueries.send_command`."""
        return self._running().run_command(command)

    def history(self, channel: str, *, since: Cursor | None, limit: int, timeout_s: float) -> History:
        """See `NodeQueries.history`."""
        position, publications = self._running().history(channel, since=since, limit=limit, newest=since is None)
        return History(str(position), [publication.to_wire() for publication in publications])

    def report(self, query: ReportQuery, *, timeout_s: float) -> Report:
        """See `NodeQueries.report`."""
        return self._running().report(query)

    def nodes(self, *, timeout_s: float) -> list[NodeRecord]:
        """See `NodeQueries.nodes`."""
        return self._running().nodes()

    def presence(self, channel: str, *, limit: int, timeout_s: float) -> Presence:
        """See `NodeQueries.presence`."""
        return self._running().presence(channel, limit=limit)

    def close(self) -> None:
        """See `Publisher.close`."""
        self._closed = True

    def _running(self) -> NodeApi:
        if self.node is None or self._closed:
            raise Unavailable("no hub runs this app; publish with an Emitter in other processes")
        return self.node


def _by_content(items: Sequence[OutgoingNotification]) -> list[list[Notification]]:
    """Notifications that differ only in their user, together: the node sends them to the service once."""
    notifications = [item.notification for item in items]
    return [list(group) for _, group in groupby(notifications, key=lambda notification: notification.encode_for(()))]
