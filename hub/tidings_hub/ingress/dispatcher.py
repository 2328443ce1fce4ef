"""Carries out the requests of messages in compatibility formats: publishes, sends commands to all nodes, counts."""

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
    """Publishes and sends commands. `publish` and `run_command` may wait for the broker.

    At most `batch_max` publications are given to `publish` at once.
    """

    def __init__(
        self, publish: Publish, run_command: Callable[[Command], object], metrics: Metrics, *, batch_max: int
    ) -> None:
        self._publish = publish
        self._run_command = run_command
        self._batch_max = batch_max
        self.metrics = metrics

    def dispatch(self, format_name: str, requests: Sequence[PublishRequest | CommandRequest], *, at_ms: int) -> None:
        """Carry out all requests in order. Failures are counted and logged."""
        for kind, group in groupby(requests, key=type):
            if kind is PublishRequest:
                items = [
                    item
                    for request in group
                    if isinstance(request, PublishRequest)
                    for item in self._items(request, at_ms)
                ]
                for start in range(0, len(items), self._batch_max):
                    self._publish_batch(format_name, items[start : start + self._batch_max])
            else:
                for request in group:
                    if isinstance(request, CommandRequest):
                        self._dispatch_command(format_name, request)

    def reject(self, format_name: str, error: Exception) -> None:
        """Count and log a message that is invalid, or a request that failed."""
        known = error if isinstance(error, TidingsError) else Internal()
        self.metrics.count(self.metrics.wires_refused, known.code.name)
        log_rate_limited(
            *(logger, logging.WARNING, f"refused {format_name}"),
            *("a message in the format %s was rejected: %s", format_name, known),
        )

    def _items(self, request: PublishRequest, at_ms: int) -> Iterator[OutgoingPublication]:
        # The formats carry no id. This one serves only the retries of the hub's own publisher.
        id_ = new_id(at_ms)
        body = request.body(id=id_, at_ms=at_ms)
        return (OutgoingPublication(channel, body, id_, OWN_ID_S) for channel in request.channels)

    def _publish_batch(self, format_name: str, items: Sequence[OutgoingPublication]) -> None:
        for answer in self._publish(items):
            if isinstance(answer, TidingsError):
                self.reject(format_name, answer)
            else:
                self.metrics.count(self.metrics.wires_published, format_name)

    def _dispatch_command(self, format_name: str, request: CommandRequest) -> None:
        try:
            self._run_command(_command(request))
        except TidingsError as error:
            self.reject(format_name, error)
        else:
            self.metrics.count(self.metrics.wires_ordered, request.action)


def check_commands_allowed(requests: Sequence[CommandRequest], *, allowed: bool) -> Sequence[CommandRequest]:
    """Return `requests` if the settings of the format allow commands.

    Raises:
        Forbidden: they do not.
    """
    if requests and not allowed:
        raise Forbidden("the setting `orders` of this format is off")
    return requests


def _command(request: CommandRequest) -> Command:
    if request.action == "disconnect":
        return control.disconnect(user=request.user or None, connection=request.connection or None)
    make = control.subscribe if request.action == "subscribe" else control.unsubscribe
    return make(user=request.user, channel=request.channel)
