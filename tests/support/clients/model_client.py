"""A client that records what it receives, and compares it with everything that was published."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tidings.wire.cursor import Cursor
from tidings_hub.core.frame import OutgoingFrame
from tidings_hub.core.sessions import Session
from tidings_hub.services.client_connection import Connection
from tidings_hub.services.hub import Hub


@dataclass(eq=False)
class ModelClient:
    """A client over all its connections. It stores the latest cursor, or the highest one.

    `known`: per channel, the seq up to which it has everything or has reloaded. `during_gap`: publications that were
    on their way to Redis when it received a gap, so its reload may contain them.
    """

    channels: list[str]
    is_highest: bool
    remote: str = "here"
    transport: str = "websocket"
    closed: bool = False
    cursor: str | None = None
    known: dict[str, int] = field(default_factory=dict)
    received: dict[str, list[int]] = field(default_factory=dict)
    during_gap: set[int] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    is_connecting: bool = False
    session: Session[Connection] | None = None
    hub: Hub | None = None
    on_gap: Callable[[ModelClient], int] = lambda _: 0

    def close(self, code: str, message: str | None = None) -> None:
        self.closed = True

    def receive(self, frame: OutgoingFrame) -> None:
        event, data, *rest = json.loads(frame.packet[2:])
        if event == "tidings:ready":
            lost = [name for name, answer in data["channels"].items() if not answer.get("recovered")]
            self.reload(lost, Cursor.parse(data["position"]).seq)
            if data["lost"]:
                # The hub has dropped what it held back of these channels: the client reloads them from now on.
                self.reload(data["lost"], self.on_gap(self))
            self.store(data["cursor"])
        elif event == "tidings:gap":
            self.reload(data["channels"], self.on_gap(self))
            self.store(data["cursor"])
        elif not event.startswith("tidings:"):
            channel, cursor = rest
            seq, before = Cursor.parse(cursor).seq, self.received.setdefault(channel, [])
            if self.is_highest and before and seq <= before[-1]:
                self.errors.append(f"{channel} {seq} after {before[-1]}")
            before.append(seq)
            self.store(cursor)

    def store(self, cursor: str) -> None:
        if not self.is_highest or self.cursor is None or Cursor.parse(cursor).seq > Cursor.parse(self.cursor).seq:
            self.cursor = cursor

    def reload(self, channels: Iterable[str], seq: int) -> None:
        for name in channels:
            self.known[name] = max(seq, self.known.get(name, 0))

    def lacks(self, published: Sequence[tuple[int, str]]) -> list[str]:
        """What it never received and was not notified of, and what arrived twice or out of order."""
        lacking = [
            f"{channel} {seq} is missing"
            for seq, channel in published
            if channel in self.channels and seq > self.known.get(channel, 0) and seq not in self.during_gap
            if seq not in self.received.get(channel, ())
        ]
        return lacking + self.errors


def fan_out(connections: Iterable[Connection], frames: Sequence[OutgoingFrame]) -> None:
    for connection in connections:
        assert isinstance(connection, ModelClient)
        for frame in frames:
            connection.receive(frame)
