"""The API of a node for its HTTP API and for an app in its process: the hub, its commands and its readiness."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from tidings.receipts import Receipt
from tidings.wire.control import Command, CommandResult, NodeRecord, NodeReplies, command_result
from tidings.wire.reports import Report, ReportQuery, locate, merge_reports, own_position, require_unique
from tidings_hub.config.settings import Settings
from tidings_hub.node.readiness import Readiness
from tidings_hub.services.api import RowPage
from tidings_hub.services.commands import Commands, merge_rows
from tidings_hub.services.hub import Hub


class LocalNodeApi:
    """Implements `services.api.NodeApi`. Every method may wait for the broker; never call one in the pump."""

    def __init__(self, hub: Hub, readiness: Readiness, commands: Commands) -> None:
        self._hub = hub
        self._commands = commands
        self.metrics = hub.metrics
        self.inbox = hub.inbox
        self.notifications = hub.notifications
        self.authenticate = hub.authenticator.authenticate
        self.publish = hub.publish
        self.history = hub.history
        self.presence = hub.presence.members
        self.ready = readiness.ready

    @property
    def settings(self) -> Settings:
        """The current settings. SIGHUP replaces some of them."""
        return self._hub.settings

    def health(self) -> Mapping[str, object]:
        """The node's id and every insecure option that is on."""
        return {"status": "ok", "node": self.settings.node_id, "insecure": self.settings.insecure_options()}

    def run_command(self, command: Command) -> CommandResult:
        """Send a command to every node and add up their replies.

        Raises:
            UnknownNamespace: the command's channel has no rule.
            Unavailable: the broker did not accept the command.
        """
        channel = command.arguments.get("channel")
        if isinstance(channel, str):
            self._hub.access.rule(channel)
        return command_result(self._commands.request(command))

    def open_report(self, channel: str, receipt: Receipt) -> None:
        """Open the report of a publication that this node has just published and that requests one.

        A duplicate opens none: the node does not know whether the first publication requested a report.
        """
        if not receipt.duplicate:
            position = own_position(receipt.cursor)
            self._hub.deliveries.reports.open(receipt.id, channel, position, now_s=time.monotonic())

    def report(self, query: ReportQuery) -> Report:
        """The delivery report of a publication that requested one, over all nodes.

        Raises:
            NotFound: no node has a report with this id.
            TimedOut: no node that replied in time has one, and others did not reply.
            BadRequest: the publication is in several channels, and `query` names none.
            Unavailable: the broker did not answer.
        """
        located = query if query.cursor else self._locate(query)
        replies = self._commands.request(located.to_command())
        if not query.channel:
            require_unique(located, replies)
        return merge_reports(located, replies)

    def _locate(self, query: ReportQuery) -> ReportQuery:
        """`query` with channel and cursor. Nodes need both to know whether they still expect the publication."""
        own = [
            ReportQuery(report.id, report.channel, report.cursor)
            for report in self._hub.deliveries.reports.find(query.id, query.channel)
        ]
        return own[0] if len(own) == 1 else locate(query, self._commands.request(query.to_command()))

    def nodes(self) -> list[NodeRecord]:
        """The records of all nodes that are alive, sorted by name.

        Raises:
            Unavailable: the broker did not answer.
        """
        return self._hub.broker.nodes()

    def channels(self, *, after: str | None, limit: int, local_only: bool) -> RowPage:
        """See `NodeApi.channels`."""
        return self._list("channels", "channel", after, limit, self._commands.channels() if local_only else None)

    def connections(self, *, after: str | None, limit: int, local_only: bool) -> RowPage:
        """See `NodeApi.connections`."""
        return self._list("connections", "connection", after, limit, self._commands.sessions() if local_only else None)

    def _list(
        self, subject: str, key: str, after: str | None, limit: int, own_rows: Iterable[dict[str, object]] | None
    ) -> RowPage:
        """One page of rows, sorted by `key`. `own_rows`: this node's rows; None: request them from all nodes."""
        arguments: dict[str, str | float] = {"what": subject, "limit": limit}
        command = Command("list", arguments if after is None else arguments | {"after": after})
        if own_rows is None:
            replies = self._commands.request(command)
        else:
            replies = NodeReplies([{"rows": [row for row in own_rows if after is None or str(row[key]) > after]}])
        return RowPage(merge_rows(command, replies, key=key), len(replies.replies), replies.missing)
