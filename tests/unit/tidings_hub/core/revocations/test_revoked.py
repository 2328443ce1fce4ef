from __future__ import annotations

import pytest

from tidings.tokens import Claims
from tidings_hub.core.revocations.revoked import Revocations, is_revocation, missing_revocations, token_key, user_key


def bearer(*channels: str, sub: str = "ann") -> Claims:
    return Claims(sub=sub, jti="t1", channels=channels)


def test_revocation_applies_until_its_end() -> None:
    revocations = Revocations({user_key("ann"): 100.0, token_key("t9"): 50.0})
    assert revocations.is_revoked(bearer(), now_s=99.9)
    assert not revocations.is_revoked(bearer(), now_s=100.0)
    assert not revocations.is_revoked(bearer(sub="bob"), now_s=10.0)
    assert revocations.is_revoked(Claims(sub="bob", jti="t9"), now_s=49.0)
    assert not revocations.is_revoked(Claims(sub="bob", jti=None), now_s=49.0)


def test_revocations_of_users_and_tokens_are_separate() -> None:
    assert not Revocations({token_key("ann"): 100.0}).is_revoked(bearer(sub="ann"), now_s=1.0)
    assert not Revocations({user_key("t1"): 100.0}).is_revoked(bearer(sub="ann"), now_s=1.0)


def test_later_end_of_a_revocation_counts() -> None:
    revocations = Revocations()
    revocations.add(user_key("ann"), 100.0)
    revocations.add(user_key("ann"), 50.0)
    assert revocations.is_revoked(bearer(), now_s=75.0)
    revocations.add(user_key("ann"), 200.0)
    assert revocations.is_revoked(bearer(), now_s=150.0)


def test_revocations_are_removed_two_hours_after_their_end() -> None:
    revocations = Revocations({"user:a": 10.0, "user:ann": 20.0})
    assert revocations.forget_past(revocations.entries(), now_s=3_610.0) == []
    assert revocations.is_revoked(bearer(sub="ann"), now_s=19.0), "a clock that went ahead and back ends nothing"
    assert revocations.forget_past([("user:a", 5.0), ("user:b", 5.0)], now_s=7_205.0) == [], "it ends later by now"
    assert revocations.forget_past(revocations.entries(), now_s=7_210.0) == ["user:a"]
    assert len(revocations) == 1
    assert not Revocations().is_revoked(bearer(), now_s=0.0)


def test_only_a_later_end_changes_a_revocation() -> None:
    revocations = Revocations()
    assert [revocations.add("user:a", end_s) for end_s in (10.0, 10.0, 5.0, 11.0)] == [True, False, False, True]


def test_revocations_in_force_that_are_not_stored_or_end_earlier_are_missing() -> None:
    known = {"user:a": 50.0, "user:b": 50.0, "user:c": 50.0, "user:past": 9.0, "user:d": 50.0}
    stored = {"user:a": 50.0, "user:b": 40.0, "user:d": 60.0, "user:e": 60.0}
    assert missing_revocations(known.items(), stored, now_s=10.0) == {"user:b": 50.0, "user:c": 50.0}
    assert missing_revocations(known.items(), {}, now_s=50.0) == {}


@pytest.mark.parametrize(
    ("key", "until_s"),
    [
        ("user:7", True),
        ("user:7", "1"),
        ("user:7", None),
        ("user:7", float("nan")),
        ("user:7", float("inf")),
        ("user:7", 10**400),
        ("7", 1.0),
        (7, 1.0),
        ("user:" + "a" * 300, 1.0),
        ("user:", 1.0),
        ("user:7 ", 1.0),
        ("user:7\n", 1.0),
        ("jti:\ud800", 1.0),
    ],
)
def test_malformed_revocation_is_none(key: object, until_s: object) -> None:
    assert is_revocation("jti:x", 1)
    assert not is_revocation(key, until_s)
