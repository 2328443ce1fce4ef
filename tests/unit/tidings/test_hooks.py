from __future__ import annotations

import json

import pytest

from tidings.errors import BadRequest, Unauthorized
from tidings.hooks import sign, verify

SECRET = "s" * 32
BODY = b'{"hook":"connect"}'


def test_signature_of_the_hub_verifies() -> None:
    header = sign(SECRET, BODY, at_s=1000.9)
    assert header.startswith("t=1000,v1=")
    assert verify(SECRET, header, BODY, now_s=1100) == json.loads(BODY)


def test_the_signature_is_the_documented_one() -> None:
    # printf '1000.{"hook":"connect"}' | openssl dgst -sha256 -hmac ssssssssssssssssssssssssssssssss
    assert sign(SECRET, BODY, at_s=1000) == (
        "t=1000,v1=3157dd529a7e4561df9d10f39207395ac6534b6b596a9f0a78b5ede01ae53b4a"
    )


def test_line_break_at_the_end_of_the_secret_is_ignored() -> None:
    assert verify(SECRET + "\n", sign(SECRET, BODY, at_s=1000), BODY, now_s=1000) == json.loads(BODY)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "t=1000",
        "t=1000,v1=",
        "t=1000,v1=" + "0" * 64,
        "t=-1,v1=" + "0" * 64,
        "v1=" + "0" * 64,
        "t=1000,v1=" + "Z" * 64,
    ],
)
def test_wrong_signature_is_rejected(header: str | None) -> None:
    with pytest.raises(Unauthorized):
        verify(SECRET, header, BODY, now_s=1000)


def test_signature_covers_time_body_and_secret() -> None:
    header = sign(SECRET, BODY, at_s=1000)
    for secret, signature, body in (
        ("t" * 32, header, BODY), (SECRET, header.replace("t=1000", "t=1001"), BODY), (SECRET, header, BODY + b" "),
    ):  # fmt: skip
        with pytest.raises(Unauthorized):
            verify(secret, signature, body, now_s=1000)
    for now_s in (600, 1400):
        with pytest.raises(Unauthorized, match="too long ago"):
            verify(SECRET, header, BODY, now_s=now_s)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{"])
def test_body_that_is_not_an_object_is_rejected(body: bytes) -> None:
    with pytest.raises(BadRequest):
        verify(SECRET, sign(SECRET, body, at_s=1), body, now_s=1)
