"""One node loses single messages on an unbroken link, and its clients go to another node.

Node A is behind a proxy that drops messages; node B is not. The hubs are real, and their clients record what they
receive. The tests check whether each `recovered: true` was right, or corrected later.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from contract.broker_contract import LIMITS, outgoing
from support.network.proxy import Proxy
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings.publishers.redis.publisher import RedisPublisher
from tidings.receipts import Receipt
from tidings.redis_client.keys import RedisKeys
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
    """A client's side of a connection: the cursor for its next resume, and what it received."""

    def __init__(self) -> None:
        self.remote, self.transport, self.closed = "here", "websocket", False
        self.received: list[Any] = []
        self.cursor: str | None = None

    def close(self, code: str) -> None:
        self.closed = True

    def receive(self, frame: OutgoingFrame) -> None:
        parts = json.loads(frame.packet[2:])
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


@dataclass
class TwoNodes:
    redis: RedisProcess
    proxy: Proxy
    a: Node
    b: Node
    backend: RedisPublisher
    _ids: Iterator[int] = field(default_factory=itertools.count)

    def publish(self, channel: str) -> Cursor:
        (answer,) = self.backend.publish([outgoing(channel)], timeout_s=20)
        assert isinstance(answer, Receipt), answer
        return Cursor.parse(answer.cursor)

    def lose(self, client: ClientConnection) -> tuple[Cursor, str]:
        """Node A loses a publication of orders:1. Return it, and a later cursor of orders:2 that the client has."""
        self.proxy.drop("orders:1")
        dropped = self.publish("orders:1")
        late = self.publish("orders:2")
        wait_until(lambda: client.cursor == str(late), why="the client has a cursor after the lost publication")
        assert dropped.seq not in client.ids("orders:1")
        return dropped, str(late)


Build = Callable[..., TwoNodes]


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    redis = RedisProcess(tmp_path).start()
    proxy = Proxy(redis.port)
    opened: list[Any] = [RedisPublisher(redis.url)]

    def node(url: str, limits: BrokerLimits) -> Node:
        settings = Settings.model_validate({"namespaces": {"orders": {"history": 100}}, "hold_max": 100})
        metrics = Metrics()
        broker = RedisBroker(url, limits=limits, metrics=metrics)
        hub = Hub(settings, broker, settings.access(), None, fan_out=fan_out, metrics=metrics)
        broker.write_rules(settings.broker_rules())
        broker.start(hub)
        opened.append(broker)
        wait_until(lambda: broker.state().connected, why="the node is connected")
        return Node(hub, broker, metrics)

    def built(limits: BrokerLimits = SELDOM) -> TwoNodes:
        two = TwoNodes(redis, proxy, node(proxy.url, limits), node(redis.url, limits), opened[0])
        # The first check runs at once.
        wait_until(lambda: two.a.metrics.position_checks == two.b.metrics.position_checks == 1 or limits != SELDOM)
        return two

    yield built
    for broker in opened[1:]:
        broker.stop()
    opened[0].close()
    proxy.close()
    redis.stop()


def test_doubt_of_one_node_reaches_every_node(build: Build) -> None:
    two = build()
    client, _, _ = two.a.connect()
    before = str(two.publish("orders:2"))
    dropped, late = two.lose(client)
    # The channel's next publication shows the gap to node A, which repairs it for the clients that it still has.
    after = two.publish("orders:1")
    wait_until(lambda: client.ids("orders:1") == [dropped.seq, after.seq])
    assert two.b.returns(late) == {"orders:1": False, "orders:2": True}
    assert two.b.returns(before) == {"orders:1": True, "orders:2": True}
    assert two.b.returns(str(after)) == {"orders:1": True, "orders:2": True}
    assert two.a.returns(late) == {"orders:1": False, "orders:2": True}


def test_client_that_moved_before_the_loss_was_found_is_notified_then(build: Build) -> None:
    two = build()
    first_client, _, session = two.a.connect()
    resident, _, _ = two.b.connect()
    dropped, late = two.lose(first_client)
    two.a.hub.close(session)
    resumed, joined, _ = two.b.connect(since=late)
    # No node has found the loss yet.
    assert joined.answers["orders:1"] == {"recovered": True}
    assert dropped.seq not in resumed.ids("orders:1")
    two.publish("orders:1")
    wait_until(lambda: resumed.gap_channels() == ["orders:1"], why="the client receives the gap")
    assert resident.gap_channels() == []
    assert two.b.metrics.gaps_late == 1
    # After that it is like every other client: the gap is not sent again.
    two.publish("orders:2")
    end = two.publish("orders:1")
    wait_until(lambda: resumed.ids("orders:1")[-1:] == [end.seq] == resident.ids("orders:1")[-1:])
    assert resumed.gap_channels() == ["orders:1"]


def test_newer_cursor_of_a_client_that_moved_is_doubted(build: Build) -> None:
    two = build()
    first_client, _, session = two.a.connect()
    _, late = two.lose(first_client)
    two.a.hub.close(session)
    resumed, _, second_session = two.b.connect(since=late)
    newer = two.publish("orders:2")
    wait_until(lambda: resumed.cursor == str(newer))
    two.b.hub.close(second_session)
    two.publish("orders:1")
    wait_until(lambda: two.b.returns(str(newer))["orders:1"] is False, why="node B doubts a cursor that it sent itself")


def test_position_check_finds_a_loss_without_another_publication(build: Build) -> None:
    two = build(LIMITS)
    first_client, _, session = two.a.connect()
    two.proxy.drop("orders:1")
    dropped = two.publish("orders:1")
    late = two.publish("orders:2")
    wait_until(lambda: first_client.cursor is not None and Cursor.parse(first_client.cursor).seq >= late.seq)
    two.a.hub.close(session)
    resumed, joined, _ = two.b.connect(since=str(late))
    # The check may run at any of these moments. Each time the client has the publication, or receives the gap.
    wait_until(
        lambda: (
            dropped.seq in first_client.ids("orders:1")
            or joined.answers["orders:1"]["recovered"] is False
            or resumed.gap_channels() == ["orders:1"]
        ),
        why="the position check of node A finds the loss",
    )


def test_stopping_node_checks_positions_once_more(build: Build) -> None:
    two = build()
    first_client, _, _ = two.a.connect()
    _, late = two.lose(first_client)
    two.a.broker.stop()
    assert two.b.returns(late) == {"orders:1": False, "orders:2": True}


def test_loss_before_a_broken_link_is_doubted(build: Build) -> None:
    two = build()
    first_client, _, session = two.a.connect()
    dropped, late = two.lose(first_client)
    two.proxy.cut()
    wait_until(lambda: dropped.seq in first_client.ids("orders:1"), why="it is repaired on the next link")
    two.a.hub.close(session)
    assert two.b.returns(late)["orders:1"] is False


def test_beyond_the_limit_doubts_cover_all_channels(build: Build) -> None:
    two = build(replace(SELDOM, doubts_max=1))
    client, _, _ = two.a.connect()
    _, late = two.lose(client)
    two.publish("orders:1")
    wait_until(lambda: two.a.metrics.doubts == 1)
    assert two.b.returns(late) == {"orders:1": False, "orders:2": True}
    two.proxy.drop("orders:2")
    two.publish("orders:2")
    newer = two.publish("orders:1")
    wait_until(lambda: client.cursor == str(newer))
    end = two.publish("orders:2")
    wait_until(lambda: two.a.metrics.doubts == 2)
    assert two.b.returns(late) == {"orders:1": False, "orders:2": False}
    assert two.b.returns(str(newer)) == {"orders:1": False, "orders:2": False}
    assert two.b.returns(str(end)) == {"orders:1": True, "orders:2": True}
    with two.redis.client() as redis:
        assert sorted(redis.hkeys(RedisKeys().doubts)) == [b"#", b"*", b"@"]


def test_a_new_epoch_begins_without_doubts(build: Build) -> None:
    two = build()
    client, _, _ = two.a.connect()
    two.lose(client)
    two.publish("orders:1")
    wait_until(lambda: two.a.metrics.doubts == 1)
    with two.redis.client() as redis:
        redis.hset(RedisKeys().meta, mapping={"run_id": "another", "checked_ms": "0"})
    wait_until(
        lambda: {"orders:1", "orders:2"} <= set(client.gap_channels()), why="the client is notified of the new epoch"
    )
    two.b.connect()
    fresh = two.publish("orders:2")
    assert two.b.returns(str(fresh)) == {"orders:1": True, "orders:2": True}
