"""One node loses single messages on an unbroken link, and its clients go to another node.

Node A is behind a proxy that drops messages; node B is not. The hubs are real, and their clients record what they
receive. The tests check whether each `recovered: true` was right, or corrected later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from contract.broker_contract import LIMITS
from contract.doubts.doubt_scene import SELDOM, ClientConnection, Node, Nodes
from support.network.proxy import Proxy
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings.redis_client.keys import RedisKeys
from tidings.wire.cursor import Cursor
from tidings_hub.brokers.base import BrokerLimits


@dataclass
class TwoNodes:
    nodes: Nodes
    proxy: Proxy
    a: Node
    b: Node

    @property
    def redis(self) -> RedisProcess:
        return self.nodes.redis

    def publish(self, channel: str) -> Cursor:
        return self.nodes.publish(channel)

    def lose(self, client: ClientConnection) -> tuple[Cursor, str]:
        """Node A loses a publication of orders:1. Return it, and a later cursor of orders:2 that the client has."""
        return self.nodes.lose(self.proxy, client)


Build = Callable[..., TwoNodes]


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    nodes = Nodes(tmp_path)

    def built(limits: BrokerLimits = SELDOM) -> TwoNodes:
        nodes.limits = limits
        proxy = nodes.proxy()
        return TwoNodes(nodes, proxy, nodes.start(proxy.url), nodes.start(nodes.redis.url))

    yield built
    nodes.close()


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
    # A client may have received this one as well after it went to another node.
    assert two.b.returns(str(after)) == {"orders:1": False, "orders:2": True}
    assert two.b.returns(str(two.publish("orders:2"))) == {"orders:1": True, "orders:2": True}
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


def test_loss_before_a_broken_link_is_doubted_although_the_repair_reads_nothing(build: Build) -> None:
    """The bound of the repair leaves open which publication the node missed first."""
    two = build(replace(SELDOM, repair_max_bytes=1))
    first_client, _, session = two.a.connect()
    _, late = two.lose(first_client)
    two.proxy.refuse()
    wait_until(lambda: not two.a.broker.state().connected)
    two.publish("orders:1")
    two.proxy.accept_again()
    wait_until(lambda: "orders:1" in first_client.gap_channels(), why="the next link reports the gap")
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
    two.publish("orders:2")
    wait_until(lambda: two.a.metrics.doubts == 2)
    end = two.publish("orders:2")
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
