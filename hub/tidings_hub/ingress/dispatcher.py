"""Where everything goes that came in another emitter's format: to the broker, to all nodes, or into a counter."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from tidings.errors import Forbidden, Internal, TidingsError
from tidings.publishers.base import OWN_ID_S, OutgoingPublication
from tidings.receipts import Receipt
from tidings.wire import control
from tidings.wire.control import Command
from tidings.wire.ids import new_id
from tidings_hub.core.compat.requests import CommandRequest, PublishRequest
from tidings_hub.log import log_rate_limited
from tidings_hub.metrics import Metrics

logger = logging.getLogger("tidings.ingress")

Publish = Callable[[Sequence[OutgoingPublication]], list[Receipt | TidingsError]]


class Dispatcher:
    """Publishes, orders, and counts. `publish` and `order` may wait for the broker; `batch_max` items go at once."""

    def __init__(
        self, publish: Publish, order: Callable[[Command], object], metrics: Metrics, *, batch_max: int
    ) -> None:
        self._publish = publish
        self._order = order
        self._batch_max = batch_max
        self.metrics = metrics

    def dispatch(self, name: str, wanted: Sequence[PublishRequest | CommandRequest], *, at_ms: int) -> None:
        """Do all of it, in order. What fails is counted and logged."""
        for kind, group in groupby(wanted, key=type):
            if kind is PublishRequest:
                items = [
                    item
                    for each in group
                    if isinstance(each, PublishRequest)
                    for item in self._items(name, each, at_ms)
                ]
                for start in range(0, len(items), self._batch_max):
                    self._publish_some(name, items[start : start + self._batch_max])
            else:
                for each in group:
                    if isinstance(each, CommandRequest):
                        self._order_one(name, each)

    def reject(self, name: str, error: Exception) -> None:
        """A message asks for what cannot be, or something that it asked for failed."""
        known = error if isinstance(error, TidingsError) else Internal()
        self.metrics.count(self.metrics.wires_refused, known.code.name)
        log_rate_limited(
            logger, logging.WARNING, f"refused {name}", "a message in the format %s was refused: %s", name, known
        )

    def _items(self, name: str, asked: PublishRequest, at_ms: int) -> Iterator[OutgoingPublication]:
        # The formats have no ids: this one serves only the broker's own retries.
        id_ = new_id(at_ms)
        body = asked.body(id=id_, at_ms=at_ms)
        return (OutgoingPublication(channel, body, id_, OWN_ID_S) for channel in asked.channels)

    def _publish_some(self, name: str, items: Sequence[OutgoingPublication]) -> None:
        for answer in self._publish(items):
            if isinstance(answer, TidingsError):
                self.reject(name, answer)
            else:
                self.metrics.count(self.metrics.wires_published, name)

    def _order_one(self, name: str, ordered: CommandRequest) -> None:
        try:
            self._order(_order(ordered))
        except TidingsError as error:
            self.reject(name, error)
        else:
            self.metrics.count(self.metrics.wires_ordered, ordered.action)


def check_commands_allowed(ordered: Sequence[CommandRequest], *, allowed: bool) -> Sequence[CommandRequest]:
    """The orders, if the settings allow any.

    Raises:
        Forbidden: they do not.
    """
    if ordered and not allowed:
        raise Forbidden("the setting `orders` of this format is off")
    return ordered


def _order(ordered: CommandRequest) -> Command:
    if ordered.action == "disconnect":
        return control.disconnect(user=ordered.user or None, connection=ordered.connection or None)
    make = control.subscribe if ordered.action == "subscribe" else control.unsubscribe
    return make(user=ordered.user, channel=ordered.channel)
