from __future__ import annotations

from collections.abc import Sequence

import pytest

from tidings.errors import Forbidden, TidingsError, Unavailable
from tidings.publishers.base import OutgoingPublication
from tidings.receipts import Receipt
from tidings.wire.control import Command
from tidings_hub.core.compat.requests import CommandRequest, PublishRequest
from tidings_hub.ingress.dispatcher import Dispatcher, check_commands_allowed
from tidings_hub.metrics import Metrics

PUBLISH = PublishRequest(("io:a", "io:b"), "updated", b"1")
COMMAND = CommandRequest("disconnect", user="7")


class Backend:
    """Records what a dispatcher does, in order. `error`: what every call fails with."""

    def __init__(self, *, error: TidingsError | None = None) -> None:
        self.calls: list[list[str] | str] = []
        self.metrics = Metrics()
        self._error = error
        self.dispatcher = Dispatcher(self._publish, self._run_command, self.metrics, batch_max=3)

    def _publish(self, items: Sequence[OutgoingPublication]) -> list[Receipt | TidingsError]:
        self.calls.append([item.channel for item in items])
        return [self._error or Receipt(item.channel, item.id, "e.1") for item in items]

    def _run_command(self, command: Command) -> None:
        self.calls.append(command.name)
        if self._error is not None:
            raise self._error


def test_requests_are_carried_out_in_order_and_in_batches() -> None:
    backend = Backend()
    backend.dispatcher.dispatch("flask_socketio", [PUBLISH, PUBLISH, COMMAND, PUBLISH], at_ms=1)
    assert backend.calls == [["io:a", "io:b", "io:a"], ["io:b"], "disconnect", ["io:a", "io:b"]]
    assert backend.metrics.wires_published == {"flask_socketio": 6}
    assert backend.metrics.wires_ordered == {"disconnect": 1}


def test_failures_are_counted_by_code_and_do_not_stop_the_next_request() -> None:
    backend = Backend(error=Unavailable("down"))
    backend.dispatcher.dispatch("flask_socketio", [COMMAND, PUBLISH], at_ms=1)
    assert backend.calls == ["disconnect", ["io:a", "io:b"]]
    assert backend.metrics.wires_refused == {"unavailable": 3}


def test_an_unexpected_error_is_counted_as_internal() -> None:
    backend = Backend()
    backend.dispatcher.reject("flask_socketio", ZeroDivisionError())
    assert backend.metrics.wires_refused == {"internal": 1}


def test_commands_are_forbidden_if_the_setting_is_off() -> None:
    assert check_commands_allowed([COMMAND], allowed=True) == [COMMAND]
    assert check_commands_allowed([], allowed=False) == []
    with pytest.raises(Forbidden):
        check_commands_allowed([COMMAND], allowed=False)
