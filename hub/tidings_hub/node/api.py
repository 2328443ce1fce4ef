"""What backends and operators may ask of a node over HTTP: the hub and its readiness behind one face."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from tidings.receipts import Receipt
from tidings.wire.control import Answers, Done, NodeRecord, Order, done
from tidings.wire.reports import Report, Sought, check_sole, gathered, own_place, placed
from tidings_hub.config.settings import Settings
from tidings_hub.node.readiness import Readiness
from tidings_hub.services.api import Listed
from tidings_hub.services.commands import Control, listed
from tidings_hub.services.hub import Hub


class Backends:
    """Fits `web.port.HubApi`. Every method may wait for the broker; none is for the pump."""

    def __init__(self, hub: Hub, readiness: Readiness, control: Control) -> None:
        self._hub = hub
        self._control = control
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

    def order(self, order: Order) -> Done:
        """Have every node do something, and say what came of it.

        Raises:
            UnknownNamespace: of its channel. Unavailable: the broker did not take it.
        """
        channel = order.about.get("channel")
        if isinstance(channel, str):
            self._hub.access.rule(channel)
        return done(self._control.ask(order))

    def sent(self, channel: str, receipt: Receipt) -> None:
        """This node published something that asks for a report: it can be asked for from now on.

        Of a duplicate nobody knows whether the first one asked for a report: that is left to whoever sent it.
        """
        if not receipt.duplicate:
            place = own_place(receipt.cursor)
            self._hub.deliveries.reports.sent(receipt.id, channel, place, now_s=time.monotonic())

    def report(self, sought: Sought) -> Report:
        """What became of a publication that asked for a report.

        Raises:
            NotFound: nobody knows it. TimedOut: nobody who answered in time. BadRequest: it is in several channels.
            Unavailable: the broker did not answer.
        """
        place = sought if sought.cursor else self._place(sought)
        answers = self._control.ask(place.order())
        if not sought.channel:
            check_sole(place, answers)
        return gathered(place, answers)

    def _place(self, sought: Sought) -> Sought:
        """Where the publication is: only then nodes can be asked whether it is still on its way to them."""
        own = [
            Sought(one.id, one.channel, one.cursor)
            for one in self._hub.deliveries.reports.of(sought.id, sought.channel)
        ]
        return own[0] if len(own) == 1 else placed(sought, self._control.ask(sought.order()))

    def nodes(self) -> list[NodeRecord]:
        """Every node that lives, by name.

        Raises:
            Unavailable: the broker did not answer.
        """
        return self._hub.broker.nodes()

    def channels(self, *, after: str | None, limit: int, here: bool) -> Listed:
        """Channels and how many connections each has, on all nodes or on this one."""
        return self._list("channels", "channel", after, limit, self._control.channels() if here else None)

    def connections(self, *, after: str | None, limit: int, here: bool) -> Listed:
        """Connections of all nodes, or of this one."""
        return self._list("connections", "connection", after, limit, self._control.sessions() if here else None)

    def _list(
        self, what: str, key: str, after: str | None, limit: int, own: Iterable[dict[str, object]] | None
    ) -> Listed:
        about: dict[str, str | float] = {"what": what, "limit": limit}
        order = Order("list", about if after is None else about | {"after": after})
        if own is None:
            answers = self._control.ask(order)
        else:
            later = [row for row in own if after is None or str(row[key]) > after]
            answers = Answers([{"rows": later}])
        return Listed(listed(order, answers, key=key), len(answers.said), answers.missing)
