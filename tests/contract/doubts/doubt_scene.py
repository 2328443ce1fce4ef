"""Hubs on one Redis that lose messages, and clients that record what they receive."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from contract.broker_contract import LIMITS, outgoing
from support.network.proxy import Proxy
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings.publishers.redis.publisher import RedisPublisher
from tidings.receipts import Receipt
from tidings.wire.claims import Claims
from tidings.wire.cursor import Cursor
from tidings_hub.brokers.base import BrokerLimits
from tidings_hub.brokers.redis import RedisBroker
from tidings_hub.config.settings import Settings
from tidings_hub.core.frame import OutgoingFrame
from tidings_hub.core.sessions import Session
from tidings_hub.metrics import Metrics
from tidings_hub.services.client_connection import Connection
from tidings_hub.services.hub import Hub
from tidings_hub.services.hub_event import hub_event
from tidings_hub.services.subscribe import PendingSubscription, go_live, subscribe

# No check runs by itself while a test looks: what is found is found by what the test does.
SELDOM = replace(LIMITS, position_check_s=3600.0)
CHANNELS = ("orders:1", "orders:2")


class ClientConnection:
    """A client's side of a connection: the cursor for its next resume, and what it received.

    `breaks_at_gap`: the connection breaks before the first `tidings:gap` reaches the client.
    """

    def __init__(self) -> None:
        self.breaks_at_gap = False
        self.remote, self.transport, self.closed = "here", "websocket", False
        self.received: list[Any] = []
        self.cursor: str | None = None

    def close(self, code: str, message: str | None = None) -> None:
        self.closed = True

    def receive(self, frame: OutgoingFrame) -> None:
        parts = json.loads(frame.packet[2:])
        self.closed = self.closed or (self.breaks_at_gap and parts[0] == "tidings:gap")
        if self.closed:
            return
        self.received.append(parts)
        if not parts[0].startswith("tidings:"):
            self.cursor = parts[3]
        elif "cursor" in parts[1]:
            self.cursor = parts[1]["cursor"]

    def gap_channels(self) -> list[str]:
        """The channels listed in a `tidings:gap` event."""
        return [name for parts in self.received if parts[0] == "tidings:gap" for name in parts[1]["channels"]]

    def ids(self, channel: str) -> list[int]:
        return [int(parts[3].split(".")[1]) for parts in self.received if len(parts) > 3 and parts[2] == channel]


def fan_out(connections: Iterable[Connection], frames: Sequence[OutgoingFrame]) -> None:
    for connection in connections:
        assert isinstance(connection, ClientConnection)
        for frame in frames:
            connection.receive(frame)


@dataclass
class Node:
    hub: Hub
    broker: RedisBroker
    metrics: Metrics

    def connect(self, *, since: str | None = None) -> tuple[ClientConnection, PendingSubscription, Session[Connection]]:
        """Connect a client and subscribe it, as the hub does for a CONNECT."""
        client = ClientConnection()
        session = self.hub.open(client, Claims(sub="u", expires_at_s=None, channels=("*",)))
        joined = subscribe(self.hub, session, CHANNELS, None if since is None else Cursor.parse(since))
        ready = {"cursor": str(joined.cursor), "channels": joined.answers}
        go_live(self.hub, session, joined, hub_event("tidings:ready", ready))
        return client, joined, session

    def returns(self, since: str) -> dict[str, object]:
        """Per channel whether a client that resumes here receives `recovered: true`."""
        _, joined, session = self.connect(since=since)
        self.hub.close(session)
        return {name: answer["recovered"] for name, answer in joined.answers.items()}


class Nodes:
    """A Redis, a backend, and the nodes and proxies that a test starts."""

    def __init__(self, folder: Path, limits: BrokerLimits = SELDOM) -> None:
        self.redis = RedisProcess(folder).start()
        self.limits = limits
        self._backend = RedisPublisher(self.redis.url)
        self._nodes: list[Node] = []
        self._proxies: list[Proxy] = []

    def proxy(self) -> Proxy:
        """A proxy to Redis."""
        self._proxies.append(Proxy(self.redis.port))
        return self._proxies[-1]

    def start(self, url: str) -> Node:
        """Start a node. Its first position check has begun."""
        settings = Settings.model_validate({"namespaces": {"orders": {"history": 100}}, "hold_max": 100})
        metrics = Metrics()
        broker = RedisBroker(url, limits=self.limits, metrics=metrics)
        hub = Hub(settings, broker, settings.access(), None, fan_out=fan_out, metrics=metrics)
        broker.write_rules(settings.broker_rules())
        broker.start(hub)
        self._nodes.append(Node(hub, broker, metrics))
        wait_until(lambda: broker.state().connected, why="the node is connected")
        wait_until(lambda: metrics.position_checks >= 1, why="the first check runs at once")
        return self._nodes[-1]

    def publish(self, channel: str) -> Cursor:
        """Publish once; the cursor of the publication."""
        (answer,) = self._backend.publish([outgoing(channel)], timeout_s=20)
        assert isinstance(answer, Receipt), answer
        return Cursor.parse(answer.cursor)

    def lose(self, proxy: Proxy, client: ClientConnection) -> tuple[Cursor, str]:
        """A node loses a publication of orders:1. Returns it, and a later cursor of orders:2 that its client has."""
        proxy.drop("orders:1")
        dropped = self.publish("orders:1")
        late = self.publish("orders:2")
        wait_until(lambda: client.cursor == str(late), why="the client has a cursor after the lost publication")
        assert dropped.seq not in client.ids("orders:1")
        return dropped, str(late)

    def close(self) -> None:
        """Stop everything."""
        for node in self._nodes:
            node.broker.stop()
        self._backend.close()
        for proxy in self._proxies:
            proxy.close()
        self.redis.stop()
