"""A node loses publications of a channel more than once. Cursors between two losses lack nothing, and are trusted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from contract.doubts.doubt_scene import ClientConnection, Node, Nodes
from support.network.proxy import Proxy
from support.waiting import wait_until
from tidings_hub.core.doubts import RANGES_MAX


@dataclass
class Scene:
    """Node A is behind a proxy and has a client; node B is not."""

    nodes: Nodes
    proxy: Proxy
    a: Node
    b: Node
    client: ClientConnection

    def lose(self) -> str:
        """Node A loses a publication of orders:1, and finds that. Returns a doubted cursor."""
        before = self.a.metrics.doubts
        _, doubted = self.nodes.lose(self.proxy, self.client)
        self.nodes.publish("orders:1")
        wait_until(lambda: self.a.metrics.doubts == before + 1, why="node A stores its doubt")
        return doubted

    def receive_next(self) -> str:
        """The client receives one more publication. Returns its cursor, before which it lacks nothing."""
        cursor = str(self.nodes.publish("orders:2"))
        wait_until(lambda: self.client.cursor == cursor, why="the client receives the next publication")
        return cursor


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    nodes = Nodes(tmp_path)
    proxy = nodes.proxy()
    a, b = nodes.start(proxy.url), nodes.start(nodes.redis.url)
    client, _, _ = a.connect()
    yield Scene(nodes, proxy, a, b, client)
    nodes.close()


def test_client_that_returns_with_a_cursor_between_two_losses_recovers_completely(scene: Scene) -> None:
    before = scene.receive_next()
    first = scene.lose()
    between = scene.receive_next()
    received = len(scene.client.ids("orders:1"))
    second = scene.lose()
    after = scene.receive_next()
    for node in (scene.a, scene.b):
        for cursor, is_recovered in ((before, True), (first, False), (between, True), (second, False), (after, True)):
            assert node.returns(cursor) == {"orders:1": is_recovered, "orders:2": True}
    returned, _, _ = scene.b.connect(since=between)
    assert returned.ids("orders:1") == scene.client.ids("orders:1")[received:]
    assert len(returned.ids("orders:1")) == 2


def test_second_loss_is_no_gap_for_a_client_that_returned_with_a_cursor_before_it(scene: Scene) -> None:
    scene.lose()
    returned, joined, _ = scene.b.connect(since=scene.receive_next())
    assert joined.answers["orders:1"] == {"recovered": True}
    scene.lose()
    end = scene.nodes.publish("orders:1")
    wait_until(lambda: returned.ids("orders:1")[-1:] == [end.seq], why="node B delivers what follows the doubt")
    assert returned.gap_channels() == []


def test_beyond_the_bound_only_cursors_between_the_oldest_losses_are_gaps(scene: Scene) -> None:
    doubted, trusted = [], []
    for _ in range(RANGES_MAX + 1):
        doubted.append(scene.lose())
        trusted.append(scene.receive_next())
    for cursor in doubted:
        assert scene.b.returns(cursor)["orders:1"] is False
    assert [scene.b.returns(cursor)["orders:1"] for cursor in trusted] == [False, *[True] * RANGES_MAX]
