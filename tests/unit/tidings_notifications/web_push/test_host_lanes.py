from __future__ import annotations

from tidings_notifications.web_push.host_lanes import HostLanes


def lanes_with(waiting: dict[str, int], *, total: int = 12, per_host: int = 8) -> HostLanes[str]:
    lanes: HostLanes[str] = HostLanes(total=total, per_host=per_host)
    for host, count in waiting.items():
        for number in range(count):
            lanes.add(host, f"{host}{number}", at_s=float(number))
    return lanes


def started(lanes: HostLanes[str]) -> list[str]:
    return [push for _, push in lanes.start()]


def test_hosts_take_turns_and_each_keeps_its_order() -> None:
    assert started(lanes_with({"a": 3, "b": 2})) == ["a0", "b0", "a1", "b1", "a2"]


def test_a_host_never_gets_the_last_connections() -> None:
    lanes = lanes_with({"a": 100})
    assert started(lanes) == [f"a{number}" for number in range(6)]
    lanes.add("b", "b0", 0.0)
    assert started(lanes) == ["b0"]


def test_a_host_gets_no_more_than_its_share() -> None:
    assert len(started(lanes_with({"a": 100}, total=1000))) == 8


def test_many_hosts_fill_all_connections_and_no_more() -> None:
    lanes = lanes_with({f"h{number}": 5 for number in range(20)})
    assert len(started(lanes)) == lanes.in_flight == 12


def test_a_finished_push_lets_the_next_one_start() -> None:
    lanes = lanes_with({"a": 9}, total=1000)
    started(lanes)
    assert lanes.finish("a", is_healthy=True) == []
    assert started(lanes) == ["a8"]


def test_a_host_that_fails_three_times_gets_its_waiting_pushes_back() -> None:
    lanes = lanes_with({"a": 12, "b": 1}, total=1000)
    started(lanes)
    assert [lanes.finish("a", is_healthy=False) for _ in range(2)] == [[], []]
    assert lanes.finish("a", is_healthy=False) == ["a8", "a9", "a10", "a11"]
    lanes.add("a", "next", 0.0)
    assert started(lanes) == []
    assert [lanes.finish("a", is_healthy=False) for _ in range(4)] == [["next"], [], [], []]
    lanes.add("a", "probe", 0.0)
    assert started(lanes) == []
    lanes.finish("a", is_healthy=True)
    lanes.add("a", "later", 0.0)
    assert started(lanes) == ["probe", "later"]


def test_a_host_that_works_again_gets_its_share_back() -> None:
    lanes = lanes_with({"a": 8}, total=1000)
    started(lanes)
    for _ in range(8):
        lanes.finish("a", is_healthy=False)
    for number in range(20):
        lanes.add("a", f"again{number}", 0.0)
    assert len(started(lanes)) == 1
    lanes.finish("a", is_healthy=True)
    assert len(started(lanes)) == 2


def test_pushes_that_wait_for_too_long_are_taken_out() -> None:
    lanes = lanes_with({"a": 12, "b": 9}, total=1000)
    started(lanes)
    assert lanes.overdue(10.0) == ["a8", "a9", "b8"]
    assert lanes.overdue(float("inf")) == ["a10", "a11"]
    lanes.finish("a", is_healthy=True)
    assert started(lanes) == []
