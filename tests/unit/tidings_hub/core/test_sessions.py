from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tidings.tokens import Claims
from tidings_hub.core.sessions import Expiries, OpenSessions, Session


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


def test_session_ends_when_connect_would_refuse_its_token() -> None:
    expiries: Expiries[str] = Expiries(warning_s=30, leeway_s=10)
    late = session(100.0)
    expiries.add(late)
    # It connected after its token expired, within the leeway: it is warned at once, and stays until the leeway ends.
    assert expiries.pop_due(105) == [late]
    assert not expiries.is_over(late, 105)
    late.warned = True
    expiries.add(late)
    assert expiries.pop_due(109.9) == []
    assert not expiries.is_over(late, 109.9)
    assert expiries.pop_due(111) == [late]
    assert expiries.is_over(late, 110)


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


USERS = ("ann", "bob", "carl")


def opened(connection: int, user: str) -> Session[int]:
    return Session(f"s{connection}", connection, Claims(user), 0.0)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 11)), max_size=80))
def test_a_user_has_the_sessions_that_a_search_finds(steps: list[tuple[bool, int]]) -> None:
    sessions: OpenSessions[int] = OpenSessions()
    pool = [opened(number, USERS[min(number % 5, 2)]) for number in range(12)]
    for is_opened, number in steps:
        if is_opened:
            sessions.add(pool[number])
        else:
            sessions.remove(pool[number])
        for user in USERS:
            expected = {session for session in sessions.by_connection.values() if session.user == user}
            assert set(sessions.of_user(user)) == expected
            assert len(sessions.of_user(user)) == len(expected)


def test_users_without_a_session_leave_nothing() -> None:
    sessions: OpenSessions[int] = OpenSessions()
    for number in range(100):
        session = opened(number, f"user{number // 7}")
        sessions.add(session)
        sessions.remove(session)
        sessions.remove(session)
    assert not sessions.by_connection
    assert not sessions._of_user


def test_a_session_whose_token_is_refreshed_keeps_its_place() -> None:
    sessions: OpenSessions[int] = OpenSessions()
    session = opened(1, "ann")
    sessions.add(session)
    session.claims = Claims("ann", jti="2")
    assert list(sessions.of_user("ann")) == [session]
    sessions.remove(session)
    assert not sessions.of_user("ann")
