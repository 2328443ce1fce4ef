"""A client takes a doubted cursor from node to node, before and after node A finds that it lost a publication.

Nodes A and B are behind proxies, node C is not. Wherever the client ends, it receives `recovered: false` or
`tidings:gap` for the lost publication.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from contract.doubts.doubt_scene import SELDOM, ClientConnection, Node, Nodes
from support.network.proxy import Proxy
from support.waiting import wait_until
from tidings.wire.cursor import Cursor
from tidings_hub.brokers.base import BrokerLimits
from tidings_hub.core.sessions import Session
from tidings_hub.services.client_connection import Connection


@dataclass
class Scene:
    nodes: Nodes
    proxy_a: Proxy
    proxy_b: Proxy
    a: Node
    b: Node
    c: Node

    def move_to_b(self) -> tuple[ClientConnection, Session[Connection]]:
        """A client of node A does not receive a publication of orders:1, and reconnects to node B with a later cursor.

        No node has found the loss yet, so the answer is `recovered: true`.
        """
        client, _, session = self.a.connect()
        _, late = self.nodes.lose(self.proxy_a, client)
        self.a.hub.close(session)
        moved, joined, session = self.b.connect(since=late)
        assert joined.answers["orders:1"] == {"recovered": True}
        return moved, session

    def find_loss(self) -> Cursor:
        """Node A finds the loss by the next publication of orders:1, and stores its doubt."""
        shown = self.nodes.publish("orders:1")
        wait_until(lambda: self.a.metrics.doubts == 1, why="node A stores its doubt")
        return shown

    def lose_in_another_channel(self, resident: ClientConnection) -> None:
        """Node A loses a publication of orders:2 as well, and finds that by the next one."""
        self.proxy_a.drop("orders:2")
        self.nodes.publish("orders:2")
        later = self.nodes.publish("orders:1")
        wait_until(lambda: resident.cursor == str(later), why="node A delivers a later publication")
        self.nodes.publish("orders:2")
        wait_until(lambda: self.a.metrics.doubts == 2, why="node A stores its second doubt")

    def receive_next(self, client: ClientConnection) -> str:
        """The client receives one more publication. Returns its cursor."""
        cursor = str(self.nodes.publish("orders:2"))
        wait_until(lambda: client.cursor == cursor, why="the client receives the next publication")
        return cursor


SceneOf = Callable[[BrokerLimits], Scene]


@pytest.fixture
def scene_of(tmp_path: Path) -> Iterator[SceneOf]:
    nodes = Nodes(tmp_path)

    def scene_of(limits: BrokerLimits) -> Scene:
        nodes.limits = limits
        proxy_a, proxy_b = nodes.proxy(), nodes.proxy()
        a, b, c = (nodes.start(url) for url in (proxy_a.url, proxy_b.url, nodes.redis.url))
        return Scene(nodes, proxy_a, proxy_b, a, b, c)

    yield scene_of
    nodes.close()


@pytest.fixture
def scene(scene_of: SceneOf) -> Scene:
    return scene_of(SELDOM)


def test_node_reports_the_gap_before_it_delivers_a_later_publication(scene: Scene) -> None:
    client, _ = scene.move_to_b()
    shown = scene.find_loss()
    later = scene.receive_next(client)
    events = [(parts[0], parts[-1]) for parts in client.received]
    gap = [event for event, _ in events].index("tidings:gap")
    assert ("updated", str(shown)) in events[:gap]
    assert events.index(("updated", later)) > gap
    assert client.gap_channels() == ["orders:1"]


@pytest.mark.parametrize("third", ["a", "c"])
def test_client_whose_connection_breaks_before_the_gap_is_not_recovered(scene: Scene, third: str) -> None:
    client, session = scene.move_to_b()
    client.breaks_at_gap = True
    shown = scene.find_loss()
    wait_until(lambda: client.closed, why="node B sends the gap")
    scene.b.hub.close(session)
    assert client.cursor == str(shown)
    assert getattr(scene, third).returns(client.cursor)["orders:1"] is False


def test_client_that_received_the_gap_is_not_doubted_again(scene: Scene) -> None:
    client, session = scene.move_to_b()
    scene.find_loss()
    wait_until(lambda: client.gap_channels() == ["orders:1"])
    scene.b.hub.close(session)
    assert client.cursor is not None
    assert scene.c.returns(client.cursor) == {"orders:1": True, "orders:2": True}


def test_node_that_dies_before_the_discovery_leaves_no_trusted_cursor(scene: Scene) -> None:
    client, _ = scene.move_to_b()
    # Node A receives nothing for a while, so the next publication of orders:1 shows the loss later.
    scene.proxy_a.pause()
    scene.nodes.publish("orders:1")
    newest = scene.receive_next(client)
    scene.proxy_b.refuse()
    scene.proxy_a.resume()
    wait_until(lambda: scene.a.metrics.doubts == 1, why="node A stores its doubt")
    assert scene.c.returns(newest)["orders:1"] is False


def test_node_whose_link_was_cut_reports_the_gap_before_it_delivers_what_it_missed(scene: Scene) -> None:
    client, _ = scene.move_to_b()
    scene.proxy_b.refuse()
    scene.find_loss()
    later = scene.nodes.publish("orders:2")
    scene.proxy_b.accept_again()
    wait_until(lambda: later.seq in client.ids("orders:2"), why="node B delivers what it missed")
    events = [parts[0] for parts in client.received]
    seqs = [Cursor.parse(parts[3]).seq if len(parts) > 3 else 0 for parts in client.received]
    assert events.index("tidings:gap") < seqs.index(later.seq)


@pytest.mark.parametrize("doubts_max", [10_000, 1])
def test_node_that_loses_the_message_about_a_doubt_doubts_its_own_cursors(scene_of: SceneOf, doubts_max: int) -> None:
    scene = scene_of(replace(SELDOM, doubts_max=doubts_max))
    resident, _, _ = scene.a.connect()
    client, session = scene.move_to_b()
    scene.proxy_b.drop_doubts(times=-1)
    scene.find_loss()
    if doubts_max == 1:
        scene.lose_in_another_channel(resident)
    newest = scene.receive_next(client)
    # Node B does not know the doubt yet, unless a lookup came in between: then the client has the gap.
    scene.b.hub.close(session)
    moved, joined, _ = scene.c.connect(since=newest)
    wait_until(
        lambda: (
            "orders:1" in client.gap_channels()
            or joined.answers["orders:1"] == {"recovered": False}
            or "orders:1" in moved.gap_channels()
        ),
        why="the client receives the gap, wherever it is",
    )


def test_doubt_that_could_not_be_stored_at_once_covers_all_moves_until_then(scene: Scene) -> None:
    client, session = scene.move_to_b()
    scene.proxy_a.refuse()
    scene.nodes.publish("orders:1")
    newest = scene.receive_next(client)
    scene.b.hub.close(session)
    moved, joined, _ = scene.c.connect(since=newest)
    assert joined.answers["orders:1"] == {"recovered": True}
    scene.proxy_a.accept_again()
    wait_until(lambda: moved.gap_channels() == ["orders:1"], why="node A is back and finds the loss")
