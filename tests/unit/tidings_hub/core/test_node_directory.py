from __future__ import annotations

import pytest

from tidings_hub.core.node_directory import SID_TAIL, NodeDirectory, NodeLease, NodeLeases, owner_of

TAIL = "x" * SID_TAIL


def roll(**leases: tuple[str, float]) -> NodeLeases:
    return NodeLeases(1_000_000.0, {name: NodeLease(*lease) for name, lease in leases.items()})


@pytest.mark.parametrize(
    ("sid", "owner"),
    [
        ("n1" + TAIL, "n1"),
        ("shop-a_3" + "-_" * 10, "shop-a_3"),
        (TAIL, ""),
        ("", ""),
        ("n1", ""),
        ("n/1" + TAIL, ""),
        ("n1" + TAIL + "\n", ""),
        ("n" * 41 + TAIL, ""),
        ("ñ" + TAIL, ""),
    ],
)
def test_a_session_id_begins_with_its_node(sid: str, owner: str) -> None:
    assert owner_of(sid) == owner


def test_a_node_is_found_until_its_lease_ends() -> None:
    nodes = NodeDirectory("me", {}, silent_s=100)
    assert nodes.find("n1", now_s=0) is None
    assert nodes.update(roll(n1=("a:1", 5.0), me=("m:1", 5.0)), now_s=10) == []
    assert len(nodes) == 1
    assert nodes.find("n1", now_s=14.9) == "a:1"
    assert nodes.find("n1", now_s=15) is None
    assert nodes.find("me", now_s=10) is None
    assert nodes.update(roll(), now_s=15) == ["n1"]
    assert len(nodes) == 0


def test_a_renewed_lease_goes_on_and_an_address_may_change() -> None:
    nodes = NodeDirectory("me", {}, silent_s=100)
    nodes.update(roll(n1=("a:1", 5.0)), now_s=0)
    nodes.update(roll(n1=("b:2", 5.0)), now_s=4)
    assert nodes.find("n1", now_s=8.9) == "b:2"


def test_whoever_gives_its_lease_up_has_gone_at_once() -> None:
    nodes = NodeDirectory("me", {}, silent_s=100)
    nodes.update(roll(n1=("a:1", 60.0), n2=("b:1", 60.0)), now_s=0)
    assert nodes.update(roll(n1=("", 60.0), n2=("b:1", 60.0)), now_s=1) == ["n1"]
    assert nodes.find("n1", now_s=1) is None
    assert nodes.find("n2", now_s=1) == "b:1"
    assert nodes.update(roll(n1=("", 60.0)), now_s=2) == []


def test_a_broker_that_came_back_empty_ends_no_lease() -> None:
    nodes = NodeDirectory("me", {}, silent_s=100)
    nodes.update(roll(n1=("a:1", 10.0)), now_s=0)
    assert nodes.update(roll(me=("m:1", 10.0)), now_s=3) == []
    assert nodes.find("n1", now_s=9) == "a:1"
    assert nodes.find("n1", now_s=10) is None


def test_while_the_broker_is_silent_no_lease_ends() -> None:
    nodes = NodeDirectory("me", {}, silent_s=8)
    nodes.update(roll(n1=("a:1", 5.0)), now_s=0)
    assert nodes.find("n1", now_s=6) is None
    assert nodes.find("n1", now_s=8.1) == "a:1"
    assert nodes.update(roll(), now_s=9) == ["n1"]
    assert nodes.find("n1", now_s=9) is None


def test_nodes_beside_are_always_known_and_never_gone() -> None:
    nodes = NodeDirectory("w-0", {"w-0": "unix:/0", "w-1": "unix:/1"}, silent_s=8)
    assert nodes.find("w-1", now_s=0) == "unix:/1"
    assert nodes.siblings() == {"w-1": "unix:/1"}
    nodes.update(roll(**{"w-1": ("10.0.0.1:1", 1.0)}), now_s=0)
    assert nodes.update(roll(), now_s=5) == []
    assert nodes.find("w-1", now_s=50) == "unix:/1"
    assert len(nodes) == 1


def test_a_session_of_ones_own_is_not_foreign() -> None:
    nodes = NodeDirectory("n1", {}, silent_s=8)
    assert nodes.owner_elsewhere("n2" + TAIL) == "n2"
    assert nodes.owner_elsewhere("n1" + TAIL) == ""
    assert nodes.owner_elsewhere("rubbish") == ""
