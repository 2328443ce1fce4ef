from __future__ import annotations

import json
from typing import Any

import pytest

from support.tokens import GOOD, KEYS, NOW, SECRET, assert_rejected, b64, signed
from tidings.tokens.signing_keys import Key


@pytest.mark.parametrize("spelling", ["none", "None", "NONE", "nOnE", "", None, 0, ["HS256"]])
def test_token_without_algorithm_is_rejected(spelling: object) -> None:
    head, body = b64(json.dumps({"alg": spelling}).encode()), b64(json.dumps(GOOD).encode())
    for signature in ("", "AA", b64(Key("HS256", SECRET).sign(f"{head}.{body}".encode()))):
        assert_rejected(f"{head}.{body}.{signature}")


@pytest.mark.parametrize("algorithm", ["HS384", "HS512", "RS384", "PS256", "ES384", "hs256", "HS256 "])
def test_unsupported_algorithm_is_rejected(algorithm: str) -> None:
    assert_rejected(signed(GOOD, header={"alg": algorithm}))


@pytest.mark.parametrize("kid", [7, None, ["old"], {"a": 1}])
def test_kid_that_is_not_text_is_rejected(kid: object) -> None:
    assert_rejected(signed(GOOD, header={"alg": "HS256", "kid": kid}))


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "HS256", "crit": ["exp"], "exp": 1},
        {"alg": "HS256", "crit": []},
        {"alg": "HS256", "crit": None},
        {"alg": "HS256", "crit": ["b64"], "b64": True},
        {"alg": "HS256", "b64": False},
        {"typ": "JWT"},
    ],
)
def test_unknown_critical_header_is_rejected(header: dict[str, Any]) -> None:
    assert_rejected(signed(GOOD, header=header))


@pytest.mark.parametrize(
    "text",
    [
        '{"sub":"ann","exp":1800000060,"sub":"bob"}',
        '{"sub":"ann","exp":1800000060,"exp":9000000000}',
        '{"sub":"ann","exp":Infinity}',
        '{"sub":"ann","exp":NaN}',
        '{"sub":"ann","exp":1e999}',
        '["sub"]',
        '"ann"',
        "null",
        "",
        "{",
        "[" * 3000,
        '{"sub":"ann","exp":' + "9" * 4000 + "}",
    ],
)
def test_claims_with_repeated_names_or_nan_are_rejected(text: str) -> None:
    assert_rejected(signed(None, text=text))


def test_header_with_a_repeated_name_is_rejected() -> None:
    head, body = b64(b'{"alg":"none","alg":"HS256"}'), b64(json.dumps(GOOD).encode())
    assert_rejected(f"{head}.{body}.{b64(Key('HS256', SECRET).sign(f'{head}.{body}'.encode()))}")


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "é.é.é",
        "....",
        "a..c",
        " a.b.c",
        "a.b.c\n",
        None,
        7,
        b"a.b.c",
        ["a"],
        {},
    ],
    ids=ascii,
)
def test_malformed_token_is_rejected(token: object) -> None:
    assert_rejected(token)


def test_second_spelling_of_a_token_is_rejected() -> None:
    good = signed(GOOD)
    assert KEYS.verify(good, now_s=NOW).sub == "ann"
    head, body, signature = good.split(".")
    # The last sign of 32 bytes in base64 carries two unused bits.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = alphabet[alphabet.index(signature[-1]) ^ 1]
    for other in (
        f"{head}.{body}.{signature[:-1]}{twin}",
        f"{head}.{body}.{signature}=",
        f"{head}=.{body}.{signature}",
        f"{good} ",
        f"{good}\n",
        f"Bearer {good}",
    ):
        assert_rejected(other)


def test_token_with_any_changed_character_is_rejected() -> None:
    good = signed(GOOD)
    for place in range(0, len(good), 3):
        changed = "A" if good[place] != "A" else "B"
        assert_rejected(good[:place] + changed + good[place + 1 :])
