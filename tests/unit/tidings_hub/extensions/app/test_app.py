from __future__ import annotations

from typing import Any

import pytest

from tidings.errors import BadConfig, BadEvent, TidingsError, TooLarge, Unavailable
from tidings.publishers.base import OutgoingPublication
from tidings.publishers.memory.store import MemoryStore
from tidings.receipts import Receipt
from tidings.wire.control import Command, CommandResult, NodeRecord
from tidings.wire.presence import Presence
from tidings.wire.reports import Count, Report, ReportQuery
from tidings_hub import App, Session


class Node:
    """The part of a node that an app uses, with a store in memory."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.commands: list[Command] = []

    def publish(self, items: list[OutgoingPublication]) -> list[Receipt | TidingsError]:
        return [self.store.publish(item) for item in items]

    def history(self, channel: str, **options: Any) -> Any:
        return self.store.history(channel, **options)

    def presence(self, channel: str, *, limit: int | None = None) -> Presence:
        return self.store.members(channel, limit=limit or 10)

    def run_command(self, command: Command) -> CommandResult:
        self.commands.append(command)
        return CommandResult(1, 1, ())

    def report(self, query: ReportQuery) -> Report:
        return Report(query.id, query.channel, query.cursor, 2, 1, {"n": Count(2, 1)})

    def nodes(self) -> list[NodeRecord]:
        return []


@pytest.mark.parametrize(
    "event", ["connect", "disconnect", "disconnecting", "connect_error", "tidings:ready", "tidings:", "", "*", "a\nb"]
)
def test_reserved_event_name_is_rejected_at_its_declaration(event: str) -> None:
    with pytest.raises(BadEvent):
        App().on(event)


def test_a_declaration_leaves_the_function_as_it_is() -> None:
    app = App()

    def send(session: Session, data: int) -> int:
        return data

    assert app.on("chat:send")(send) is send
    assert app.on_disconnect(send) is send  # type: ignore[type-var]
    assert app.events == {"chat:send": send}


def test_one_event_has_one_handler() -> None:
    app = App()

    def handler(session: Session) -> None:
        """Not called in this test."""

    app.on("x")(handler)
    with pytest.raises(BadConfig, match="two handlers for x"):
        app.on("x")(handler)
    for declare in (app.on_connect, app.on_disconnect):
        declare(handler)  # type: ignore[operator]
        with pytest.raises(BadConfig, match="two handlers"):
            declare(handler)  # type: ignore[operator]


def test_an_invalid_handler_is_rejected() -> None:
    async def coroutine(session: Session) -> None:
        """Rejected before a hub could await it."""

    with pytest.raises(BadConfig, match="coroutine"):
        App().on("x")(coroutine)
    with pytest.raises(BadConfig, match="argument"):
        App().on("x")(lambda: 1)


def test_publishing_without_a_hub_is_an_error() -> None:
    app = App()
    with pytest.raises(Unavailable, match="no hub runs this app"):
        app.emit("x", 1, channel="chat:a")
    with pytest.raises(Unavailable, match="no hub runs this app"):
        app.disconnect(user="7")
    with pytest.raises(Unavailable, match="no hub runs this app"):
        _ = app.sio


def test_attached_app_publishes_through_the_node() -> None:
    app, node, sio = App(), Node(), object()
    started: list[object] = []
    app.on_start(started.append)
    app.attach(node, sio, publication_max_bytes=20)
    receipt = app.emit("x", {"a": 1}, channel="chat:a")
    assert app.history("chat:a").publications[0]["cursor"] == receipt.cursor
    assert app.sio is sio
    assert started == [sio]
    assert app.disconnect(user="7").connections == 1
    assert app.nodes() == []
    acked = app.emit("x", 1, channel="chat:a", ack=True)
    assert acked.wait() == Report(acked.id, "chat:a", acked.cursor, 2, 1, {"n": Count(2, 1)})
    with pytest.raises(TooLarge):
        app.emit("x", "y" * 21, channel="chat:a")
    app.close()
    with pytest.raises(Unavailable):
        app.emit("x", 1, channel="chat:a")
