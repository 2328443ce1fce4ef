from __future__ import annotations

from tidings.tokens import Claims
from tidings_hub.core.sessions import Expiries, Session


def session(end_s: float | None) -> Session[str]:
    return Session("id", "connection", Claims(sub="u", expires_at_s=end_s), 0.0)


def test_a_session_comes_due_for_its_warning_and_then_for_its_end() -> None:
    expiries: Expiries[str] = Expiries(warning_s=30)
    one = session(100.5)
    expiries.add(one)
    assert expiries.pop_due(70) == []
    assert expiries.pop_due(71) == [one]
    assert one.expires_in_s(71) == 29.5
    one.warned = True
    expiries.add(one)
    assert expiries.pop_due(100.9) == []
    assert expiries.pop_due(101) == [one]
    assert one.expires_in_s(101) == 0
    assert len(expiries) == 0


def test_a_session_that_closed_is_forgotten_at_once() -> None:
    expiries: Expiries[str] = Expiries(warning_s=30)
    sessions = [session(1000 + number) for number in range(50)]
    for each in sessions:
        expiries.add(each)
    assert len(expiries) == 50
    for each in sessions:
        expiries.discard(each)
        expiries.discard(each)
    assert len(expiries) == 0
    assert expiries.pop_due(1e9) == []


def test_a_token_without_an_end_is_not_watched() -> None:
    expiries: Expiries[str] = Expiries(warning_s=30)
    expiries.add(session(None))
    assert len(expiries) == 0
    assert session(None).expires_in_s(5) is None


def test_a_token_that_is_already_due_is_seen_at_once() -> None:
    expiries: Expiries[str] = Expiries(warning_s=30)
    one = session(50.0)
    expiries.add(one)
    assert expiries.pop_due(60) == [one]


def test_a_new_token_moves_the_deadline() -> None:
    expiries: Expiries[str] = Expiries(warning_s=10)
    one = session(100.0)
    expiries.add(one)
    expiries.discard(one)
    one.claims = Claims(sub="u", expires_at_s=500.0)
    expiries.add(one)
    assert expiries.pop_due(400) == []
    assert expiries.pop_due(491) == [one]
