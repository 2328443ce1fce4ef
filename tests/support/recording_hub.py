"""One hub on the memory broker, with connections that record what they receive."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tidings.errors import TidingsError
from tidings.publishers.base import OutgoingPublication
from tidings.receipts import Receipt
from tidings.tokens import issue
from tidings.wire.cursor import Cursor
from tidings.wire.payload import encode_data
from tidings.wire.publication import encode_body
from tidings_hub.core.frame import OutgoingFrame, closing_frames
from tidings_hub.core.sessions import Session
from tidings_hub.node.api import LocalNodeApi
from tidings_hub.node.readiness import Readiness
from tidings_hub.services.client_connection import Connection
from tidings_hub.services.commands import Commands
from tidings_hub.services.hub import Hub
from tidings_hub.services.hub_event import hub_event
from tidings_hub.services.subscribe import PendingSubscription, go_live, subscribe

SECRET = "kT3xw9LpQ2vB7mZr5cYh8nDs4fGj6aUe"
NAMESPACES = {"orders": {"history": 50}, "big": {"history": 50}, "ticks": {"subscribe": "public", "history": 0}}
_numbers = itertools.count(1)


class RecordingConnection:
    """A connection that records the events written to it: lists of a name and arguments."""

    def __init__(self) -> None:
        self.remote = "here"
        self.transport = "websocket"
        self.events: list[Any] = []
        self.code: str | None = None

    @property
    def closed(self) -> bool:
        return self.code is not None

    def close(self, code: str, message: str | None = None) -> None:
        if not self.closed:
            fan_out((self,), closing_frames(code, message))
            self.code = code

    def names(self) -> list[Any]:
        return [event[0] for event in self.events]

    def data(self) -> list[Any]:
        """The data of the publications, without events of the hub."""
        return [event[1] for event in self.events if not str(event[0]).startswith("tidings:")]


def fan_out(connections: Iterable[Connection], frames: Sequence[OutgoingFrame]) -> None:
    """Write frames to connections, as the engine does."""
    for connection in connections:
        assert isinstance(connection, RecordingConnection)
        for frame in frames:
            text = frame.packet.decode()
            connection.events.append(json.loads(text[2:]) if text != "41" else ["DISCONNECT"])


class Clock:
    """A wall clock that the test sets."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


def publish(hub: Hub, channel: str, data: object, *, event: str = "ev", id: str | None = None) -> Receipt:
    """Publish and wait until the hub has delivered."""
    id_ = id or f"id{next(_numbers)}"
    body = encode_body(event, encode_data(data), id=id_, at_ms=1)
    (result,) = hub.publish([OutgoingPublication(channel, body, id_, 300)])
    assert not isinstance(result, TidingsError), result
    settle(hub)
    return result


def run_in_thread(run: Callable[..., object], *arguments: object) -> bool:
    threading.Thread(target=run, args=arguments).start()
    return True


def node_api(hub: Hub) -> LocalNodeApi:
    readiness = Readiness(hub, now_s=lambda: 0.0, sleep=lambda _: None, pump_alive=lambda: True, greenlets=lambda: 0)
    return LocalNodeApi(hub, readiness, Commands(hub, run_in_thread))


def settle(hub: Hub) -> None:
    """Wait until the hub has processed everything that was published or sent so far."""
    hub.broker.canary()


def open_session(
    hub: Hub, clock: Clock, user: str = "u", *patterns: str, expires_in_s: float = 600
) -> Session[Connection]:
    """Open a session with a token for these channel patterns (all channels)."""
    token = issue(user, key=SECRET, channels=patterns or ("*",), now_s=clock.now_s, expires_in_s=expires_in_s)
    return hub.open(RecordingConnection(), hub.authenticator.authenticate(token, "here"))


def recorder(session: Session[Connection]) -> RecordingConnection:
    """The connection of a session."""
    assert isinstance(session.connection, RecordingConnection)
    return session.connection


def join(hub: Hub, session: Session[Connection], *channels: str, since: str | None = None) -> PendingSubscription:
    """Subscribe and go live, as at connect."""
    pending = subscribe(hub, session, channels, None if since is None else Cursor.parse(since))
    go_live(hub, session, pending, hub_event("tidings:ready", {}))
    return pending
