from __future__ import annotations

import json

import jwt
import pytest

from support.tokens import GOOD, NOW, SECRET, assert_rejected, b64, pair
from tidings.errors import BadConfig
from tidings.tokens import KeySet, issue
from tidings.tokens.signing_keys import Key


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_every_algorithm(algorithm: str) -> None:
    private, public = pair(algorithm)
    token = issue("ann", key=private, algorithm=algorithm, kid="k", now_s=NOW)
    assert KeySet([Key(algorithm, public, kid="k")]).verify(token, now_s=NOW).sub == "ann"
    # Any other library reads it too, and we read any other library's.
    assert (
        jwt.decode(token, public, algorithms=[algorithm], options={"verify_exp": False, "verify_iat": False})["sub"]
        == "ann"
    )
    foreign_token = jwt.encode(GOOD, private, algorithm=algorithm)
    assert KeySet([Key(algorithm, public)]).verify(foreign_token, now_s=NOW).sub == "ann"
    assert_rejected(token, KeySet([Key("HS256", SECRET, kid="k")]))


def test_public_key_is_rejected_as_a_secret() -> None:
    _, public = pair("RS256")
    keys = KeySet([Key("RS256", public)])
    import hashlib
    import hmac

    for material in (public, public.strip(), public + "\n"):
        head, body = b64(b'{"alg":"HS256"}'), b64(json.dumps(GOOD).encode())
        forged = hmac.new(material.encode(), f"{head}.{body}".encode(), hashlib.sha256).digest()
        assert_rejected(f"{head}.{body}.{b64(forged)}", keys)
    for disguise in (
        public,
        " \n" + public,
        public.replace("-----BEGIN", "----- BEGIN"),
        "x" * 40 + public,
        public.lower(),
    ):
        with pytest.raises(BadConfig):
            Key("HS256", disguise)
    with pytest.raises(BadConfig):
        Key("HS256", json.dumps({"kty": "RSA", "n": "0" * 40, "e": "AQAB"}))
    with pytest.raises(BadConfig):
        Key("HS256", "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC7 ann@example")


@pytest.mark.parametrize("secret", ["", "short", "12345678", "x" * 31])
def test_weak_secret_is_rejected(secret: str) -> None:
    with pytest.raises(BadConfig, match="32 bytes"):
        Key("HS256", secret)
    with pytest.raises(BadConfig, match="32 bytes"):
        issue("ann", key=secret)


def test_weak_and_wrong_keys_are_rejected() -> None:
    with pytest.raises(BadConfig, match="1024 bits"):
        Key("RS256", pair("RSA1024")[1])
    with pytest.raises(BadConfig):
        Key("ES256", pair("P384")[1])
    for algorithm in ("RS256", "ES256", "EdDSA"):
        private, public = pair(algorithm)
        with pytest.raises(BadConfig, match="public key"):
            Key(algorithm, private)
        with pytest.raises(BadConfig, match="private key"):
            issue("ann", key=public, algorithm=algorithm)
        for other in {"RS256", "ES256", "EdDSA"} - {algorithm}:
            with pytest.raises(BadConfig):
                Key(other, public)
        with pytest.raises(BadConfig):
            Key(algorithm, SECRET)
    for unknown in ("none", "HS512", "", "hs256"):
        with pytest.raises(BadConfig, match="unknown algorithm"):
            Key(unknown, SECRET)
