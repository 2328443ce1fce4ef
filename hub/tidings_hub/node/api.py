"""What backends and operators may ask of a node over HTTP: the hub and its readiness behind one face."""

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
    """Fits `web.port.NodeApi`. Every method may wait for the broker; none is for the pump."""

    def __init__(self, hub: Hub, readiness: Readiness, commands: Commands) -> None:
        self._hub = hub
        self._control = commands
        self.metrics = hub.metrics
        self.publish = hub.publish
        self.history = hub.history
        self.presence = hub.presence.members
        self.ready = readiness.ready

    @property
    def settings(self) -> Settings:
        """What this node runs with; SIGHUP changes it."""
        return self._hub.settings

    def health(self) -> Mapping[str, object]:
        """That the process lives, who it is, and every insecure option that is on."""
        return {"status": "ok", "node": self.settings.node_id, "insecure": self.settings.insecure()}

    def run_command(self, command: Command) -> CommandResult:
        """Have every node do something, and say what came of it.

        Raises:
            UnknownNamespace: of its channel. Unavailable: the broker did not take it.
        """
        channel = command.arguments.get("channel")
        if isinstance(channel, str):
            self._hub.access.rule(channel)
        return command_result(self._control.request(command))

    def open_report(self, channel: str, receipt: Receipt) -> None:
        """This node published something that asks for a report: it can be asked for from now on.

        Of a duplicate nobody knows whether the first one asked for a report: that is left to whoever sent it.
        """
        if not receipt.duplicate:
            place = own_position(receipt.cursor)
            self._hub.deliveries.reports.open(receipt.id, channel, place, now_s=time.monotonic())

    def report(self, query: ReportQuery) -> Report:
        """What became of a publication that asked for a report.

        Raises:
            NotFound: nobody knows it. TimedOut: nobody who answered in time. BadRequest: it is in several channels.
            Unavailable: the broker did not answer.
        """
        place = query if query.cursor else self._place(query)
        answers = self._control.request(place.to_command())
        if not query.channel:
            require_unique(place, answers)
        return merge_reports(place, answers)

    def _place(self, sought: ReportQuery) -> ReportQuery:
        """Where the publication is: only then nodes can be asked whether it is still on its way to them."""
        own = [
            ReportQuery(one.id, one.channel, one.cursor)
            for one in self._hub.deliveries.reports.find(sought.id, sought.channel)
        ]
        return own[0] if len(own) == 1 else locate(sought, self._control.request(sought.to_command()))

    def nodes(self) -> list[NodeRecord]:
        """Every node that lives, by name.

        Raises:
            Unavailable: the broker did not answer.
        """
        return self._hub.broker.nodes()

    def channels(self, *, after: str | None, limit: int, local_only: bool) -> RowPage:
        """Channels and how many connections each has, on all nodes or on this one."""
        return self._list("channels", "channel", after, limit, self._control.channels() if local_only else None)

    def connections(self, *, after: str | None, limit: int, local_only: bool) -> RowPage:
        """Connections of all nodes, or of this one."""
        return self._list("connections", "connection", after, limit, self._control.sessions() if local_only else None)

    def _list(
        self, what: str, key: str, after: str | None, limit: int, own: Iterable[dict[str, object]] | None
    ) -> RowPage:
        about: dict[str, str | float] = {"what": what, "limit": limit}
        order = Command("list", about if after is None else about | {"after": after})
        if own is None:
            answers = self._control.request(order)
        else:
            later = [row for row in own if after is None or str(row[key]) > after]
            answers = NodeReplies([{"rows": later}])
        return RowPage(merge_rows(order, answers, key=key), len(answers.replies), answers.missing)
