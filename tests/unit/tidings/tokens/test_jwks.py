from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from support.tokens import GOOD, NOW, SECRET, assert_rejected, b64, pair, signed
from tidings.errors import BadConfig, Unauthorized, Unavailable
from tidings.tokens import KeySet, issue
from tidings.tokens.jwks import MAX_BYTES, REFETCH_S, Jwks, fetch_bytes
from tidings.tokens.signing_keys import Key


def jwk(algorithm: str, **more: object) -> dict[str, Any]:
    public = serialization.load_pem_public_key(pair(algorithm)[1].encode())
    entry: dict[str, Any] = jwt.get_algorithm_by_name(algorithm).to_jwk(public, as_dict=True)
    return entry | more


def document(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


class Issuer:
    """An issuer whose document can be changed. `requests`: the requested URLs."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.requests: list[str] = []

    def __call__(self, url: str) -> bytes:
        self.requests.append(url)
        if not self.body:
            raise OSError("no route")
        return self.body


def by(issuer: str, kid: str = "k1", algorithm: str = "RS256") -> str:
    return issue("ann", key=pair(algorithm)[0], algorithm=algorithm, kid=kid, issuer=issuer, now_s=NOW)


URL = "https://id.example/jwks"


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_keys_from_a_jwks(algorithm: str) -> None:
    issuer = Issuer(document(jwk(algorithm, kid="k1")))
    keys = KeySet(jwks=[Jwks("https://id.example", url=URL, fetch=issuer)])
    token = by("https://id.example", algorithm=algorithm)
    assert_rejected(token, keys)
    assert issuer.requests == []
    assert keys.verify_fresh(token, now_s=NOW).sub == "ann"
    assert issuer.requests == [URL]


def test_jwks_is_cached_and_fetched_again_in_time() -> None:
    issuer = Issuer(document(jwk("RS256", kid="k1")))
    keys = KeySet(jwks=[Jwks("me", url=URL, cache_s=600, fetch=issuer)])
    assert keys.refresh(now_s=NOW) == []
    for second in range(0, 600, 50):
        keys.refresh(now_s=NOW + second)
    assert len(issuer.requests) == 1
    keys.refresh(now_s=NOW + 600)
    assert len(issuer.requests) == 2


def test_an_unknown_kid_fetches_once_in_thirty_seconds() -> None:
    issuer = Issuer(document(jwk("RS256", kid="k1")))
    keys = KeySet(jwks=[Jwks("me", url=URL, fetch=issuer)])
    keys.refresh(now_s=NOW)
    for number in range(1000):
        with pytest.raises(Unauthorized):
            keys.verify_fresh(by("me", kid="k2"), now_s=NOW + number / 100)
        if number > 30:
            break
    assert len(issuer.requests) == 1
    issuer.body = document(jwk("RS256", kid="k2"))
    assert keys.verify_fresh(by("me", kid="k2"), now_s=NOW + REFETCH_S).sub == "ann"
    assert len(issuer.requests) == 2


def test_keys_stay_if_the_issuer_does_not_respond() -> None:
    issuer = Issuer(document(jwk("RS256", kid="k1")))
    keys = KeySet(jwks=[Jwks("me", url=URL, cache_s=60, fetch=issuer)])
    keys.refresh(now_s=NOW)
    for broken in (
        b"",
        b"<html>",
        b"{}",
        b'{"keys":7}',
        b'{"keys":[]}',
        b'{"keys":[{"kty":"oct","k":"AAAA"}]}',
        b"[" * 9999,
    ):
        issuer.body = broken
        later_s = NOW + 60 * (len(issuer.requests) + 1)
        errors = keys.refresh(now_s=later_s)
        assert [type(error) for error in errors] == [Unavailable]
    claims = keys.verify(by("me"), now_s=NOW)
    assert claims.sub == "ann"


def test_keys_of_one_issuer_do_not_verify_tokens_of_another() -> None:
    """Two issuers with the same kid, and a key of the hub: each verifies only its own tokens."""
    first, second = Issuer(document(jwk("RS256", kid="k1"))), Issuer(document(jwk("ES256", kid="k1")))
    keys = KeySet(
        [Key("HS256", SECRET)], jwks=[Jwks("first", url=URL, fetch=first), Jwks("second", url=URL, fetch=second)]
    )
    keys.refresh(now_s=NOW)
    assert keys.verify(by("first"), now_s=NOW).issuer == "first"
    assert keys.verify(by("second", algorithm="ES256"), now_s=NOW).issuer == "second"
    assert_rejected(by("second"), keys)
    assert_rejected(by("first", algorithm="ES256"), keys)
    assert_rejected(by("third"), keys)
    assert_rejected(signed({**GOOD, "iss": "first"}), keys)
    assert keys.verify(signed({**GOOD, "iss": "me"}), now_s=NOW).sub == "ann"


def test_no_claim_becomes_part_of_a_url() -> None:
    issuer = Issuer(document(jwk("RS256", kid="k1")))
    keys = KeySet(jwks=[Jwks("me", url=URL, fetch=issuer)])
    for evil in ("http://169.254.169.254/", "me/../x", "https://evil.example"):
        with pytest.raises(Unauthorized):
            keys.verify_fresh(by(evil, kid="https://evil.example/key"), now_s=NOW)
    assert set(issuer.requests) <= {URL}


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "oct", "k": b64(SECRET.encode()), "kid": "k1"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "k1"},
        {"kty": "RSA", "kid": "k1"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"},
        {"kty": ["RSA"]},
        {},
    ],
)
def test_invalid_jwks_entries_are_ignored(entry: dict[str, Any]) -> None:
    with pytest.raises(BadConfig):
        Key.from_jwk(entry)


def test_jwks_entries_for_other_uses_are_ignored() -> None:
    for other in ({"use": "enc"}, {"alg": "RS512"}, {"alg": "HS256"}):
        with pytest.raises(BadConfig):
            Key.from_jwk(jwk("RS256", **other))
    with pytest.raises(BadConfig):
        Key.from_jwk(jwk_of("RSA1024"))


def jwk_of(kind: str) -> dict[str, Any]:
    public = serialization.load_pem_public_key(pair(kind)[1].encode())
    entry: dict[str, Any] = jwt.get_algorithm_by_name("RS256").to_jwk(public, as_dict=True)
    return entry


def test_keys_from_a_jwks_file(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_bytes(document(jwk("EdDSA", kid="k1")))
    keys = KeySet(jwks=[Jwks("me", file=str(file))])
    assert keys.verify_fresh(by("me", algorithm="EdDSA"), now_s=NOW).sub == "ann"
    missing = KeySet(jwks=[Jwks("me", file=str(tmp_path / "none"))])
    assert [type(error) for error in missing.refresh(now_s=NOW)] == [Unavailable]
    file.write_bytes(b" " * (MAX_BYTES + 1))
    assert [type(error) for error in KeySet(jwks=[Jwks("me", file=str(file))]).refresh(now_s=NOW)] == [Unavailable]


@pytest.mark.parametrize(
    "url",
    [
        "http://id.example/jwks",
        "http://127.0.0.1.evil.example/",
        "file:///etc/passwd",
        "ftp://id.example/",
        "https://",
        "https://user:pass@id.example/",
        "https://127.0.0.1@evil.example/",
        "javascript:alert(1)",
        "https://[::1",
        "//id.example",
    ],
)
def test_url_that_is_not_https_is_rejected(url: str) -> None:
    with pytest.raises(BadConfig):
        Jwks("me", url=url)


def test_jwks_needs_exactly_one_of_url_and_file() -> None:
    for wrong in ({}, {"url": URL, "file": "x"}):
        with pytest.raises(BadConfig):
            Jwks("me", **wrong)
    with pytest.raises(BadConfig):
        Jwks("", url=URL)


class IssuerHandler(BaseHTTPRequestHandler):
    """A small issuer over HTTP."""

    body: ClassVar[bytes] = b""

    def do_GET(self) -> None:
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "/jwks")
            self.end_headers()
            return
        if self.path == "/gone":
            self.send_error(404)
            return
        self.send_response(200)
        self.end_headers()
        size = MAX_BYTES + 1 if self.path == "/huge" else len(self.body)
        try:
            self.wfile.write(self.body if self.path == "/jwks" else b"x" * size)
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def issuer_url() -> Iterator[str]:
    IssuerHandler.body = document(jwk("RS256", kid="k1"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), IssuerHandler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_keys_fetched_over_http(issuer_url: str) -> None:
    keys = KeySet(jwks=[Jwks("me", url=f"{issuer_url}/jwks")])
    assert keys.verify_fresh(by("me"), now_s=NOW).sub == "ann"


@pytest.mark.parametrize("path", ["/elsewhere", "/gone", "/huge"])
def test_fetch_is_limited_and_follows_no_redirect(issuer_url: str, path: str) -> None:
    with pytest.raises((OSError, ValueError)):
        fetch_bytes(issuer_url + path)
    assert [type(error) for error in KeySet(jwks=[Jwks("me", url=issuer_url + path)]).refresh(now_s=NOW)] == [
        Unavailable
    ]
