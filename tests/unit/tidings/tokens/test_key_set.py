from __future__ import annotations

from typing import Any

import jwt
import pytest

from support.tokens import GOOD, KEYS, NOW, OTHER, SECRET, assert_rejected, pair, signed
from tidings.errors import Expired, Unauthorized
from tidings.tokens import Claims, KeySet, issue
from tidings.tokens.signing_keys import Key
from tidings.wire.channels import PATTERN_MAX


def test_issued_token_verifies() -> None:
    token = issue(
        "ann", key=SECRET, channels=["orders:*", "news:1"], info={"name": "Ann"}, jti="t1", issuer="me", now_s=NOW
    )
    assert KEYS.verify(token, now_s=NOW) == Claims(
        sub="ann",
        expires_at_s=NOW + 3600,
        issued_at_s=NOW,
        jti="t1",
        channels=("orders:*", "news:1"),
        info={"name": "Ann"},
        issuer="me",
    )


def test_token_of_another_library_verifies() -> None:
    assert KEYS.verify(jwt.encode(GOOD, SECRET, algorithm="HS256"), now_s=NOW).sub == "ann"


def test_asymmetric_token_does_not_verify_with_a_secret() -> None:
    private, _ = pair("RS256")
    assert_rejected(issue("ann", key=private, algorithm="RS256", now_s=NOW))


@pytest.mark.parametrize(
    ("claims", "error"),
    [
        ({"exp": NOW + 1}, None),
        ({"exp": NOW - 9}, None),
        ({"exp": NOW - 10}, Expired),
        ({"exp": NOW - 1000}, Expired),
        ({"exp": NOW + 60, "nbf": NOW + 10}, None),
        ({"exp": NOW + 60, "nbf": NOW + 11}, Unauthorized),
        ({"exp": NOW + 60, "iat": NOW + 10}, None),
        ({"exp": NOW + 60, "iat": NOW + 11}, Unauthorized),
        ({}, Unauthorized),
        ({"exp": None}, Unauthorized),
        ({"exp": str(NOW + 60)}, Unauthorized),
        ({"exp": True}, Unauthorized),
        ({"exp": -1}, Unauthorized),
        ({"exp": 1e300}, Unauthorized),
        ({"exp": [NOW + 60]}, Unauthorized),
        ({"exp": NOW + 60, "nbf": "x"}, Unauthorized),
    ],
)
def test_times(claims: dict[str, Any], error: type[Exception] | None) -> None:
    token = signed({"sub": "ann", **claims})
    if error is None:
        assert KEYS.verify(token, now_s=NOW).sub == "ann"
        return
    with pytest.raises(error) as caught:
        KEYS.verify(token, now_s=NOW)
    assert type(caught.value) is error


BAD_SUB = "sub cannot be part of a channel; use 1 to 135 letters, digits and the signs _ . : @ | = + ~ ! $ -"


@pytest.mark.parametrize(
    ("claims", "text"),
    [
        ({"sub": 7}, "sub is not a string; write a number in quotes"),
        ({"sub": None}, "sub is missing"),
        ({"sub": "a b"}, BAD_SUB),
        ({"sub": "a" * 136}, BAD_SUB),
        ({"exp": str(NOW + 60)}, "exp is not a number of seconds"),
        ({"exp": (NOW + 60) * 1000}, "exp is too large; it is in seconds since 1970, not in milliseconds"),
        ({"exp": None}, "exp is not a number of seconds"),
        ({"iat": NOW + 60}, "iat is in the future; set the clock of its issuer, or of the hub"),
        ({"nbf": NOW + 60}, "nbf is in the future; set the clock of its issuer, or of the hub"),
        ({"aud": "other"}, "aud does not name this hub; issue it with the hub's audience"),
        ({"iss": "other"}, "iss is not the issuer that this hub accepts"),
        ({"channels": "orders:*"}, "channels is not a list of channels or patterns such as orders:*"),
        ({"jti": 7}, f"jti is not a string of at most {PATTERN_MAX} characters"),
    ],
)
def test_signed_token_is_rejected_with_the_claim_that_is_wrong(claims: dict[str, Any], text: str) -> None:
    keys = KeySet([Key("HS256", SECRET)], audience="hub", issuer="me")
    good = {**GOOD, "aud": "hub", "iss": "me"}
    assert keys.verify(signed(good), now_s=NOW).sub == "ann"
    with pytest.raises(Unauthorized) as caught:
        keys.verify(signed(good | claims), now_s=NOW)
    assert str(caught.value) == f"token rejected: {text}"


def test_token_without_exp_is_rejected_with_the_reason() -> None:
    with pytest.raises(Unauthorized, match="exp is missing; issue tokens that expire"):
        KEYS.verify(signed({"sub": "ann"}), now_s=NOW)


def test_unsigned_token_reveals_no_claim_and_no_key() -> None:
    """A sender without a key gets the same message for a wrong signature, an unknown kid and another algorithm."""
    keys = KeySet([Key("HS256", SECRET, kid="k1")])
    claims, other = {"sub": 7}, "o" * 32
    private, _ = pair("RS256")
    tokens = {
        signed(claims, header={"alg": "HS256", "kid": "k1"}, secret=other): "its signature does not match the key 'k1'",
        signed(claims, header={"alg": "HS256"}, secret=other): "its signature is wrong",
        signed(claims, header={"alg": "HS256", "kid": "k2"}): "this hub has no key for HS256 with the kid 'k2'",
        signed(claims, header={"alg": "none"}): "the algorithm 'none' is none of HS256, RS256, ES256, EdDSA",
        issue("ann", key=private, algorithm="RS256", now_s=NOW): "this hub has no key for RS256",
        signed(claims | {"iss": "https://a.example/"}, header={"alg": "HS256", "kid": "k2"}): (
            "this hub has no key for HS256 with the kid 'k2', and no jwks for the issuer 'https://a.example/'"
        ),
    }
    for token, reason in tokens.items():
        with pytest.raises(Unauthorized) as caught:
            keys.verify(token, now_s=NOW)
        assert str(caught.value) == "token rejected: it is not signed with a key of this hub; send a new one"
        assert caught.value.__notes__ == [reason]


@pytest.mark.parametrize("around", ['"%s"', "Bearer %s", " %s", "%s\n", "'%s'"])
def test_text_around_a_token_is_named(around: str) -> None:
    with pytest.raises(Unauthorized, match="without quotes and without `Bearer`"):
        KEYS.verify(around % signed(GOOD), now_s=NOW)


def test_token_that_is_too_long_is_told_so() -> None:
    many = {**GOOD, "channels": [f"orders:{number}" for number in range(900)]}
    with pytest.raises(Unauthorized, match=r"longer than 8192 bytes; name fewer channels in it, or patterns"):
        KEYS.verify(signed(many), now_s=NOW)


@pytest.mark.parametrize("end", ["\n", "\r\n", " "])
def test_line_break_at_the_end_of_a_secret_is_ignored(end: str) -> None:
    """A hub's settings ignore it as well. The secret of a file or a variable often ends with one."""
    assert KEYS.verify(issue("ann", key=SECRET + end, now_s=NOW), now_s=NOW).sub == "ann"


def test_token_without_exp_needs_require_exp_false() -> None:
    token = issue("ann", key=SECRET, expires_in_s=None, now_s=NOW)
    assert_rejected(token)
    claims = KeySet([Key("HS256", SECRET)], require_exp=False).verify(token, now_s=NOW)
    assert claims.expires_at_s is None


def test_expired_forgery_is_reported_as_invalid() -> None:
    assert_rejected(signed({"sub": "ann", "exp": NOW - 1000}, secret=OTHER))


@pytest.mark.parametrize(
    "sub", [None, "", 7, ["ann"], {"a": 1}, "a b", "a\nb", "*", "ä", "x" * 200, "a/b", "\u0000", True]
)
def test_malformed_user_is_rejected(sub: object) -> None:
    assert_rejected(signed({"sub": sub, "exp": NOW + 60}))


def test_token_without_user_is_rejected() -> None:
    assert_rejected(signed({"exp": NOW + 60}))


@pytest.mark.parametrize(
    "channels", ["orders:*", {"orders:*": 1}, [1], [None], [""], ["a*b"], ["**"], ["x" * 201], 7, True, ["a:b"] * 1001]
)
def test_malformed_patterns_are_rejected(channels: object) -> None:
    assert_rejected(signed({**GOOD, "channels": channels}))


@pytest.mark.parametrize("jti", [7, ["x"], {}, True, "x" * 300])
def test_malformed_token_id_is_rejected(jti: object) -> None:
    assert_rejected(signed({**GOOD, "jti": jti}))


def test_audience_and_issuer() -> None:
    keys = KeySet([Key("HS256", SECRET)], audience="hub", issuer="me")
    for audience in ("hub", ["other", "hub"]):
        assert keys.verify(signed({**GOOD, "aud": audience, "iss": "me"}), now_s=NOW).issuer == "me"
    for wrong in (
        {"aud": "hub"},
        {"iss": "me"},
        {"aud": "other", "iss": "me"},
        {"aud": "hub", "iss": "you"},
        {"aud": ["other"], "iss": "me"},
        {"aud": [], "iss": "me"},
        {"aud": {"hub": 1}, "iss": "me"},
        {"aud": "hubs", "iss": "me"},
        {"aud": "hub", "iss": ["me"]},
        {"aud": None, "iss": "me"},
    ):
        assert_rejected(signed({**GOOD, **wrong}), keys)


def test_old_and_new_key_verify_during_rotation() -> None:
    old, new = Key("HS256", SECRET, kid="old"), Key("HS256", OTHER, kid="new")
    keys = KeySet([old, new])
    for key, kid in ((SECRET, "old"), (OTHER, "new"), (SECRET, None), (OTHER, None)):
        assert keys.verify(issue("ann", key=key, kid=kid, now_s=NOW), now_s=NOW).sub == "ann"
    assert_rejected(issue("ann", key=SECRET, kid="new", now_s=NOW), keys)
    assert_rejected(issue("ann", key=SECRET, kid="unknown", now_s=NOW), keys)
    assert_rejected(issue("ann", key=SECRET, kid="old", now_s=NOW), KeySet([new]))


def test_key_set_without_keys_verifies_nothing() -> None:
    assert_rejected(signed(GOOD), KeySet())


def test_error_contains_nothing_of_the_token() -> None:
    token = signed({**GOOD, "info": "canary-secret"}, secret=OTHER)
    with pytest.raises(Unauthorized) as caught:
        KEYS.verify(token, now_s=NOW)
    error: BaseException | None = caught.value
    while error is not None:
        assert "canary" not in repr(error)
        assert token not in repr(error)
        error = error.__cause__
