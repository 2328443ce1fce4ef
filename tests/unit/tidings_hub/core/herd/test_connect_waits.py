from __future__ import annotations

from tidings_hub.core.herd.connect_waits import ConnectWaits


def begin(waits: ConnectWaits[str], client: str, *, draw: float = 0.0) -> bool:
    return waits.begin(client, now_s=100.0, client_left_s=4.0, draw=draw)


def test_clients_beyond_the_bound_are_refused() -> None:
    waits = ConnectWaits[str](waits_max=2, timeout_s=30)
    assert [begin(waits, name) for name in ("a", "b", "c", "a")] == [True, True, False, True]
    assert len(waits) == 2


def test_rest_of_the_connect_timeout_is_returned_after_the_last_answer() -> None:
    waits = ConnectWaits[str](waits_max=2, timeout_s=30)
    begin(waits, "a")
    waits.begin("a", now_s=101.0, client_left_s=0.0, draw=0.0)
    assert waits.end("a") is None
    assert waits.end("a") == 4.0
    assert waits.end("a") is None
    assert "a" not in waits


def test_deadlines_are_spread_over_the_last_third() -> None:
    waits = ConnectWaits[str](waits_max=10, timeout_s=30)
    begin(waits, "late", draw=0.0)
    begin(waits, "middle", draw=0.5)
    begin(waits, "early", draw=1.0)
    assert waits.pop_overdue(119.9) == []
    assert waits.pop_overdue(120.0) == ["early"]
    assert waits.pop_overdue(125.0) == ["middle"]
    assert waits.pop_overdue(129.9) == []
    assert waits.pop_overdue(130.0) == ["late"]
    assert len(waits) == 0


def test_answered_and_closed_clients_are_not_overdue() -> None:
    waits = ConnectWaits[str](waits_max=10, timeout_s=30)
    begin(waits, "answered")
    begin(waits, "closed")
    waits.end("answered")
    waits.discard("closed")
    waits.discard("closed")
    assert waits.pop_overdue(1000.0) == []
