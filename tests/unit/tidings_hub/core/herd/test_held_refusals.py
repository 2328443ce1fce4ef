from __future__ import annotations

from tidings_hub.core.herd.held_refusals import BASE_S, QUIET_S, HeldRefusals

CAP_S = 16.0


def pause_s(held: HeldRefusals[str], now_s: float, draw: float) -> float:
    """The pause of one more client, to the second."""
    held.hold("client", "unavailable", now_s=now_s, draw=draw)
    waited_s = 0.0
    while not held.pop_due(now_s + waited_s):
        waited_s += 1.0
    return waited_s


def test_first_refusals_have_a_short_pause() -> None:
    held = HeldRefusals[str](CAP_S)
    assert pause_s(held, 100.0, draw=0.0) == 0
    assert pause_s(held, 100.5, draw=1.0) == BASE_S


def test_pauses_grow_with_the_time_of_refusals_up_to_a_cap() -> None:
    held = HeldRefusals[str](CAP_S)
    pauses = {second: pause_s(held, 100.0 + second, draw=1.0) for second in range(61)}
    assert (pauses[5], pauses[10], pauses[60]) == (5, 10, CAP_S)
    assert pause_s(held, 161.0, draw=0.5) == CAP_S / 2


def test_pauses_are_short_again_after_a_time_without_refusals() -> None:
    held = HeldRefusals[str](CAP_S)
    for second in range(31):
        pause_s(held, 100.0 + second, draw=1.0)
    assert pause_s(held, 131.0 + QUIET_S, draw=1.0) == BASE_S


def test_client_that_is_refused_again_keeps_its_first_pause() -> None:
    held = HeldRefusals[str](CAP_S)
    for second in range(3):
        held.hold("client", "unavailable", now_s=100.0 + second, draw=0.9)
    assert held.pop_due(100.9) == [("client", "unavailable")]


def test_each_client_is_due_once_with_its_code() -> None:
    held = HeldRefusals[str](CAP_S)
    held.hold("a", "unavailable", now_s=100.0, draw=0.9)
    held.hold("b", "timeout", now_s=100.0, draw=0.1)
    held.hold("c", "unavailable", now_s=100.0, draw=0.5)
    held.discard("c")
    assert ("a" in held, "c" in held, len(held)) == (True, False, 2)
    assert held.pop_due(100.5) == [("b", "timeout")]
    assert held.pop_due(101.0) == [("a", "unavailable")]
    assert held.pop_due(200.0) == []
