from __future__ import annotations

import pytest

from support.tokens import GOOD, KEYS, NOW, SECRET, assert_rejected, signed
from tidings.errors import BadChannel, BadData
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


@pytest.mark.parametrize(("sub", "channels"), [("", []), ("a b", []), ("ann", ["a*b"]), ("ann", [""])])
def test_token_with_malformed_user_or_channels_is_not_issued(sub: str, channels: list[str]) -> None:
    with pytest.raises(BadChannel):
        issue(sub, key=SECRET, channels=channels)
