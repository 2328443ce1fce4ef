"""What a cluster's reply to CLUSTER SLOTS teaches about its nodes."""

from __future__ import annotations

import time

from tidings.redis_client.topology import ClusterTopology

NODES = [("a", 1), ("b", 2), ("c", 3)]
SLOTS = [[0, 5460, [b"a", 1]], [5461, 10922, [b"b", 2]], [10923, 16383, [b"c", 3]]]


def order(topology: ClusterTopology) -> list[str]:
    """The nodes in the order in which they are tried, all of them."""
    return [host for (host, _), _ in topology.candidates(time.monotonic() + 60)]


def test_reply_of_one_node_does_not_make_another_one_answer() -> None:
    topology = ClusterTopology(NODES)
    topology.report_silent(("b", 2))
    assert topology.learn(SLOTS, ("c", 3), 0) == ("a", 1)
    assert order(topology)[-1] == "b"


def test_node_that_replies_again_is_tried_as_before() -> None:
    topology = ClusterTopology(NODES)
    topology.report_silent(("b", 2))
    topology.learn(SLOTS, ("b", 2), 0)
    assert order(topology)[-1] != "b"


def test_nodes_that_are_not_seeds_are_learned() -> None:
    topology = ClusterTopology(NODES[:1])
    assert topology.learn(SLOTS, ("a", 1), 16_383) == ("c", 3)
    assert sorted(order(topology)) == ["a", "b", "c"]
