from __future__ import annotations

import pytest

from tidings_hub.core.node_directory import SID_TAIL, NodeDirectory, NodeLease, NodeLeases, owner_of

TAIL = "x" * SID_TAIL


def leases_of(**leases: tuple[str, float]) -> NodeLeases:
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
def test_a_session_id_starts_with_its_node_id(sid: str, owner: str) -> None:
    assert owner_of(sid) == owner


def test_a_node_is_found_until_its_lease_ends() -> None:
    nodes = NodeDirectory("me", {}, silent_s=100)
    assert nodes.find("n1", now_s=0) is None
    assert nodes.update(leases_of(n1=("a:1", 5.0), me=("m:1", 5.0)), now_s=10) == []
    assert len(nodes) == 1
    assert nodes.find("n1", now_s=14.9) == "a:1"
    assert nodes.find("n1", now_s=15) is None
    assert nodes.find("me", now_s=10) is None
    assert nodes.update(leases_of(), now_s=15) == ["n1"]
    assert len(nodes) == 0


def test_a_renewed_lease_lasts_longer_and_may_change_the_address() -> None:
    nodes = NodeDirectory("me", {}, silent_s=100)
    nodes.update(leases_of(n1=("a:1", 5.0)), now_s=0)
    nodes.update(leases_of(n1=("b:2", 5.0)), now_s=4)
    assert nodes.find("n1", now_s=8.9) == "b:2"


def test_a_node_that_gives_its_lease_up_is_removed_immediately() -> None:
    nodes = NodeDirectory("me", {}, silent_s=100)
    nodes.update(leases_of(n1=("a:1", 60.0), n2=("b:1", 60.0)), now_s=0)
    assert nodes.update(leases_of(n1=("", 60.0), n2=("b:1", 60.0)), now_s=1) == ["n1"]
    assert nodes.find("n1", now_s=1) is None
    assert nodes.find("n2", now_s=1) == "b:1"
    assert nodes.update(leases_of(n1=("", 60.0)), now_s=2) == []


def test_a_broker_that_lost_its_data_ends_no_lease() -> None:
    nodes = NodeDirectory("me", {}, silent_s=100)
    nodes.update(leases_of(n1=("a:1", 10.0)), now_s=0)
    assert nodes.update(leases_of(me=("m:1", 10.0)), now_s=3) == []
    assert nodes.find("n1", now_s=9) == "a:1"
    assert nodes.find("n1", now_s=10) is None


def test_no_lease_ends_while_the_broker_is_unreachable() -> None:
    nodes = NodeDirectory("me", {}, silent_s=8)
    nodes.update(leases_of(n1=("a:1", 5.0)), now_s=0)
    assert nodes.find("n1", now_s=6) is None
    assert nodes.find("n1", now_s=8.1) == "a:1"
    assert nodes.update(leases_of(), now_s=9) == ["n1"]
    assert nodes.find("n1", now_s=9) is None


def test_siblings_are_always_known() -> None:
    nodes = NodeDirectory("w-0", {"w-0": "unix:/0", "w-1": "unix:/1"}, silent_s=8)
    assert nodes.find("w-1", now_s=0) == "unix:/1"
    assert nodes.siblings() == {"w-1": "unix:/1"}
    nodes.update(leases_of(**{"w-1": ("10.0.0.1:1", 1.0)}), now_s=0)
    assert nodes.update(leases_of(), now_s=5) == []
    assert nodes.find("w-1", now_s=50) == "unix:/1"
    assert len(nodes) == 1


def test_owner_elsewhere_is_empty_for_own_sessions() -> None:
    nodes = NodeDirectory("n1", {}, silent_s=8)
    assert nodes.owner_elsewhere("n2" + TAIL) == "n2"
    assert nodes.owner_elsewhere("n1" + TAIL) == ""
    assert nodes.owner_elsewhere("rubbish") == ""
