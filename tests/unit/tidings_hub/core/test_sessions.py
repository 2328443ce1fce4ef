from __future__ import annotations

from tidings.tokens import Claims
from tidings_hub.core.sessions import Expiries, Session


def session(end_s: float | None) -> Session[str]:
    return Session("id", "connection", Claims(sub="u", expires_at_s=end_s), 0.0)


def test_session_is_due_for_its_warning_and_then_for_its_expiry() -> None:
    expiries: Expiries[str] = Expiries(warning_s=30)
    expiring = session(100.5)
    expiries.add(expiring)
    assert expiries.pop_due(70) == []
    assert expiries.pop_due(71) == [expiring]
    assert expiring.expires_in_s(71) == 29.5
    expiring.warned = True
    expiries.add(expiring)
    assert expiries.pop_due(100.9) == []
    assert expiries.pop_due(101) == [expiring]
    assert expiring.expires_in_s(101) == 0
    assert len(expiries) == 0


def test_closed_session_is_discarded_immediately() -> None:
    expiries: Expiries[str] = Expiries(warning_s=30)
    sessions = [session(1000 + number) for number in range(50)]
    for closed in sessions:
        expiries.add(closed)
    assert len(expiries) == 50
    for closed in sessions:
        expiries.discard(closed)
        expiries.discard(closed)
    assert len(expiries) == 0
    assert expiries.pop_due(1e9) == []


def test_token_without_expiry_is_never_due() -> None:
    expiries: Expiries[str] = Expiries(warning_s=30)
    expiries.add(session(None))
    assert len(expiries) == 0
    assert session(None).expires_in_s(5) is None


def test_expired_token_is_due_immediately() -> None:
    expiries: Expiries[str] = Expiries(warning_s=30)
    expiring = session(50.0)
    expiries.add(expiring)
    assert expiries.pop_due(60) == [expiring]


def test_a_new_token_moves_the_deadline() -> None:
    expiries: Expiries[str] = Expiries(warning_s=10)
    live = session(100.0)
    expiries.add(live)
    expiries.discard(live)
    live.claims = Claims(sub="u", expires_at_s=500.0)
    expiries.add(live)
    assert expiries.pop_due(400) == []
    assert expiries.pop_due(491) == [live]
