from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from support.tokens import GOOD, KEYS, NOW, SECRET, assert_rejected, signed
from tidings.errors import BadChannel, BadConfig, BadData
from tidings.tokens import TOKEN_MAX_BYTES, issue


def test_each_token_has_a_unique_id() -> None:
    ids = {KEYS.verify(issue("ann", key=SECRET, now_s=NOW), now_s=NOW).jti for _ in range(20)}
    assert len(ids) == 20
    assert None not in ids


def test_token_size_is_limited() -> None:
    assert_rejected("a" * 100_000)
    assert_rejected(signed({**GOOD, "info": "x" * TOKEN_MAX_BYTES}))
    with pytest.raises(BadData, match="8192"):
        issue("ann", key=SECRET, info="x" * TOKEN_MAX_BYTES)


@pytest.mark.parametrize(
    ("sub", "channels"),
    [
        ("", []), ("a b", []), ("ann", ["a*b"]), ("ann", [""]),
        # One text is a sequence of patterns, one of which is `*`: it granted every channel.
        ("ann", "orders:*"), ("ann", "*"), ("ann", b"orders:*"), ("ann", None), ("ann", 7), ("ann", {"orders:*": 1}),
        # They cover no channel.
        ("ann", ["orders:1,orders:2"]), ("ann", ["orders"]), ("ann", ["orders:1 orders:2"]),
    ],
)  # fmt: skip
def test_token_with_malformed_user_or_channels_is_not_issued(sub: str, channels: Any) -> None:
    with pytest.raises(BadChannel):
        issue(sub, key=SECRET, channels=channels)


@pytest.mark.parametrize(
    "expires_in_s", [float("nan"), float("inf"), 1e15, -1e15, "3600", timedelta(hours=1), True, [60]]
)
def test_lifetime_is_a_number_of_seconds(expires_in_s: Any) -> None:
    with pytest.raises(BadData, match="expires_in_s is a number of seconds"):
        issue("ann", key=SECRET, expires_in_s=expires_in_s)


@pytest.mark.parametrize("claim", ["jti", "issuer", "kid"])
def test_claim_that_a_hub_would_refuse_is_not_issued(claim: str) -> None:
    with pytest.raises(BadData, match=f"{claim} is a text"):
        issue("ann", key=SECRET, **{claim: 7})  # type: ignore[arg-type]


@pytest.mark.parametrize("key", [None, 7])
def test_key_that_is_not_set_is_a_wrong_setting(key: Any) -> None:
    """`key=os.environ.get("TIDINGS_SECRET")` of a process without the variable."""
    with pytest.raises(BadConfig, match="is its variable or setting set"):
        issue("ann", key=key)
