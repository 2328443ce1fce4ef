"""The publisher of an `App`: it publishes through the node that runs the app."""

from __future__ import annotations

from collections.abc import Sequence

from tidings.errors import Unavailable
from tidings.publishers.base import OutgoingPublication, PublishResult
from tidings.wire.control import Command, CommandResult, History, NodeRecord
from tidings.wire.cursor import Cursor
from tidings.wire.presence import Presence
from tidings.wire.reports import Report, ReportQuery
from tidings_hub.services.api import NodeApi


class LocalPublisher:
    """A `HubPublisher`. Before `node` is set, which is so in any process but a hub, every call raises Unavailable.

    The time limit of a call is the node's `broker_timeout_s`; `timeout_s` is ignored.
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
