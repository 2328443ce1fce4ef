from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tidings.errors import BadChannel, BadConfig, BadData, Expired, Unauthorized, Unavailable
from tidings.tokens import TOKEN_MAX_BYTES, Claims, KeySet, issue
from tidings.tokens.jwks import MAX_BYTES, REFETCH_S, Jwks, fetch_bytes
from tidings.tokens.signing_keys import Key

NOW = 1_800_000_000.0
SECRET = "n7Qe2VYcB5sK0xTfM8rL1uJ9dWzHgA3p"
OTHER = "Zk4mR9wXtE6yUqC1vBnP8sD2fGhJ5aLo"


@cache
def pair(algorithm: str) -> tuple[str, str]:
    """A private and its public key, PEM."""
    made: Any = {
        "RS256": lambda: rsa.generate_private_key(65537, 2048),
        "RSA1024": lambda: rsa.generate_private_key(65537, 1024),
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "P384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate,
    }[algorithm]()
    private = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = made.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


def b64(plain: bytes) -> str:
    return base64.urlsafe_b64encode(plain).rstrip(b"=").decode()


def signed(
    claims: object, *, header: dict[str, Any] | None = None, secret: str = SECRET, text: str | None = None
) -> str:
    """A token with any header and claims, properly signed with HS256."""
    head = b64(json.dumps(header or {"alg": "HS256"}).encode())
    body = b64((text if text is not None else json.dumps(claims)).encode())
    signature = Key("HS256", secret).sign(f"{head}.{body}".encode())
    return f"{head}.{body}.{b64(signature)}"


KEYS = KeySet([Key("HS256", SECRET)])
GOOD = {"sub": "ann", "exp": NOW + 60}


def refused(token: object, keys: KeySet = KEYS, now_s: float = NOW) -> None:
    """The token is refused, with the one message that helps nobody."""
    with pytest.raises(Unauthorized) as caught:
        keys.verify(token, now_s=now_s)
    assert type(caught.value) is Unauthorized
    assert str(caught.value) == "token rejected: it is not valid here; send a new one"


def test_what_was_issued_is_verified() -> None:
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


def test_each_token_has_an_id_of_its_own() -> None:
    ids = {KEYS.verify(issue("ann", key=SECRET, now_s=NOW), now_s=NOW).jti for _ in range(20)}
    assert len(ids) == 20
    assert None not in ids


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
    theirs = jwt.encode(GOOD, private, algorithm=algorithm)
    assert KeySet([Key(algorithm, public)]).verify(theirs, now_s=NOW).sub == "ann"
    refused(token, KeySet([Key("HS256", SECRET, kid="k")]))


def test_a_token_of_any_other_library() -> None:
    assert KEYS.verify(jwt.encode(GOOD, SECRET, algorithm="HS256"), now_s=NOW).sub == "ann"


@pytest.mark.parametrize("spelling", ["none", "None", "NONE", "nOnE", "", None, 0, ["HS256"]])
def test_no_algorithm_is_refused(spelling: object) -> None:
    head, body = b64(json.dumps({"alg": spelling}).encode()), b64(json.dumps(GOOD).encode())
    for signature in ("", "AA", b64(Key("HS256", SECRET).sign(f"{head}.{body}".encode()))):
        refused(f"{head}.{body}.{signature}")


@pytest.mark.parametrize("algorithm", ["HS384", "HS512", "RS384", "PS256", "ES384", "hs256", "HS256 "])
def test_another_algorithm_is_refused(algorithm: str) -> None:
    refused(signed(GOOD, header={"alg": algorithm}))


def test_a_public_key_is_never_a_secret() -> None:
    _, public = pair("RS256")
    keys = KeySet([Key("RS256", public)])
    import hashlib
    import hmac

    for material in (public, public.strip(), public + "\n"):
        head, body = b64(b'{"alg":"HS256"}'), b64(json.dumps(GOOD).encode())
        forged = hmac.new(material.encode(), f"{head}.{body}".encode(), hashlib.sha256).digest()
        refused(f"{head}.{body}.{b64(forged)}", keys)
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


def test_an_asymmetric_token_where_a_secret_is_expected() -> None:
    private, _ = pair("RS256")
    refused(issue("ann", key=private, algorithm="RS256", now_s=NOW))


@pytest.mark.parametrize("secret", ["", "short", "12345678", "x" * 31])
def test_a_weak_secret_is_refused(secret: str) -> None:
    with pytest.raises(BadConfig, match="32 bytes"):
        Key("HS256", secret)
    with pytest.raises(BadConfig, match="32 bytes"):
        issue("ann", key=secret)


def test_weak_and_wrong_keys_are_refused() -> None:
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


def test_a_token_without_end_only_where_a_setting_says_so() -> None:
    token = issue("ann", key=SECRET, expires_in_s=None, now_s=NOW)
    refused(token)
    claims = KeySet([Key("HS256", SECRET)], require_exp=False).verify(token, now_s=NOW)
    assert claims.expires_at_s is None


def test_an_expired_forgery_is_not_told_that_it_expired() -> None:
    refused(signed({"sub": "ann", "exp": NOW - 1000}, secret=OTHER))


@pytest.mark.parametrize(
    "sub", [None, "", 7, ["ann"], {"a": 1}, "a b", "a\nb", "*", "ä", "x" * 200, "a/b", "\u0000", True]
)
def test_a_user_that_cannot_be(sub: object) -> None:
    refused(signed({"sub": sub, "exp": NOW + 60}))


def test_no_user_at_all() -> None:
    refused(signed({"exp": NOW + 60}))


@pytest.mark.parametrize(
    "channels", ["orders:*", {"orders:*": 1}, [1], [None], [""], ["a*b"], ["**"], ["x" * 201], 7, True, ["a:b"] * 1001]
)
def test_patterns_that_cannot_be(channels: object) -> None:
    refused(signed({**GOOD, "channels": channels}))


@pytest.mark.parametrize("jti", [7, ["x"], {}, True, "x" * 300])
def test_a_token_id_that_cannot_be(jti: object) -> None:
    refused(signed({**GOOD, "jti": jti}))


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
        refused(signed({**GOOD, **wrong}), keys)


def test_rotation() -> None:
    old, new = Key("HS256", SECRET, kid="old"), Key("HS256", OTHER, kid="new")
    both = KeySet([old, new])
    for key, kid in ((SECRET, "old"), (OTHER, "new"), (SECRET, None), (OTHER, None)):
        assert both.verify(issue("ann", key=key, kid=kid, now_s=NOW), now_s=NOW).sub == "ann"
    refused(issue("ann", key=SECRET, kid="new", now_s=NOW), both)
    refused(issue("ann", key=SECRET, kid="unknown", now_s=NOW), both)
    refused(issue("ann", key=SECRET, kid="old", now_s=NOW), KeySet([new]))


@pytest.mark.parametrize("kid", [7, None, ["old"], {"a": 1}])
def test_a_kid_that_is_no_text(kid: object) -> None:
    refused(signed(GOOD, header={"alg": "HS256", "kid": kid}))


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
def test_what_is_critical_and_not_understood(header: dict[str, Any]) -> None:
    refused(signed(GOOD, header=header))


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
def test_claims_that_are_not_plain(text: str) -> None:
    refused(signed(None, text=text))


def test_a_header_said_twice() -> None:
    head, body = b64(b'{"alg":"none","alg":"HS256"}'), b64(json.dumps(GOOD).encode())
    refused(f"{head}.{body}.{b64(Key('HS256', SECRET).sign(f'{head}.{body}'.encode()))}")


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
def test_garbage(token: object) -> None:
    refused(token)


def test_one_token_has_one_text() -> None:
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
        refused(other)


def test_every_changed_sign_is_noticed() -> None:
    good = signed(GOOD)
    for place in range(0, len(good), 3):
        changed = "A" if good[place] != "A" else "B"
        refused(good[:place] + changed + good[place + 1 :])


def test_a_token_has_a_largest_size() -> None:
    refused("a" * 100_000)
    refused(signed({**GOOD, "info": "x" * TOKEN_MAX_BYTES}))
    with pytest.raises(BadData, match="8192"):
        issue("ann", key=SECRET, info="x" * TOKEN_MAX_BYTES)


@pytest.mark.parametrize(("sub", "channels"), [("", []), ("a b", []), ("ann", ["a*b"]), ("ann", [""])])
def test_what_cannot_be_issued(sub: str, channels: list[str]) -> None:
    with pytest.raises(BadChannel):
        issue(sub, key=SECRET, channels=channels)


def test_no_key_at_all_verifies_nothing() -> None:
    refused(signed(GOOD), KeySet())


def test_an_error_holds_nothing_of_the_token() -> None:
    token = signed({**GOOD, "info": "canary-secret"}, secret=OTHER)
    with pytest.raises(Unauthorized) as caught:
        KEYS.verify(token, now_s=NOW)
    error: BaseException | None = caught.value
    while error is not None:
        assert "canary" not in repr(error)
        assert token not in repr(error)
        error = error.__cause__


# JWKS


def jwk(algorithm: str, **more: object) -> dict[str, Any]:
    public = serialization.load_pem_public_key(pair(algorithm)[1].encode())
    made: dict[str, Any] = jwt.get_algorithm_by_name(algorithm).to_jwk(public, as_dict=True)
    return made | more


def document(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


class Issuer:
    """An issuer whose document can be changed, and that counts how often it was asked."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.asked: list[str] = []

    def __call__(self, url: str) -> bytes:
        self.asked.append(url)
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
    refused(token, keys)
    assert issuer.asked == []
    assert keys.verify_fresh(token, now_s=NOW).sub == "ann"
    assert issuer.asked == [URL]


def test_a_jwks_is_kept_and_fetched_again_in_time() -> None:
    issuer = Issuer(document(jwk("RS256", kid="k1")))
    keys = KeySet(jwks=[Jwks("me", url=URL, cache_s=600, fetch=issuer)])
    assert keys.refresh(now_s=NOW) == []
    for second in range(0, 600, 50):
        keys.refresh(now_s=NOW + second)
    assert len(issuer.asked) == 1
    keys.refresh(now_s=NOW + 600)
    assert len(issuer.asked) == 2


def test_an_unknown_kid_fetches_once_in_thirty_seconds() -> None:
    issuer = Issuer(document(jwk("RS256", kid="k1")))
    keys = KeySet(jwks=[Jwks("me", url=URL, fetch=issuer)])
    keys.refresh(now_s=NOW)
    for number in range(1000):
        with pytest.raises(Unauthorized):
            keys.verify_fresh(by("me", kid="k2"), now_s=NOW + number / 100)
        if number > 30:
            break
    assert len(issuer.asked) == 1
    issuer.body = document(jwk("RS256", kid="k2"))
    assert keys.verify_fresh(by("me", kid="k2"), now_s=NOW + REFETCH_S).sub == "ann"
    assert len(issuer.asked) == 2


def test_an_issuer_that_does_not_answer_keeps_its_keys() -> None:
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
        later_s = NOW + 60 * (len(issuer.asked) + 1)
        errors = keys.refresh(now_s=later_s)
        assert [type(error) for error in errors] == [Unavailable]
    claims = keys.verify(by("me"), now_s=NOW)
    assert claims.sub == "ann"


def test_keys_of_one_issuer_do_not_count_for_another() -> None:
    """Same kid, two issuers, and a hub key beside them: each only for its own tokens."""
    one, two = Issuer(document(jwk("RS256", kid="k1"))), Issuer(document(jwk("ES256", kid="k1")))
    keys = KeySet([Key("HS256", SECRET)], jwks=[Jwks("one", url=URL, fetch=one), Jwks("two", url=URL, fetch=two)])
    keys.refresh(now_s=NOW)
    assert keys.verify(by("one"), now_s=NOW).issuer == "one"
    assert keys.verify(by("two", algorithm="ES256"), now_s=NOW).issuer == "two"
    refused(by("two"), keys)
    refused(by("one", algorithm="ES256"), keys)
    refused(by("three"), keys)
    refused(signed({**GOOD, "iss": "one"}), keys)
    assert keys.verify(signed({**GOOD, "iss": "me"}), now_s=NOW).sub == "ann"


def test_no_claim_becomes_part_of_an_address() -> None:
    issuer = Issuer(document(jwk("RS256", kid="k1")))
    keys = KeySet(jwks=[Jwks("me", url=URL, fetch=issuer)])
    for evil in ("http://169.254.169.254/", "me/../x", "https://evil.example"):
        with pytest.raises(Unauthorized):
            keys.verify_fresh(by(evil, kid="https://evil.example/key"), now_s=NOW)
    assert set(issuer.asked) <= {URL}


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
def test_entries_that_are_no_keys(entry: dict[str, Any]) -> None:
    with pytest.raises(BadConfig):
        Key.from_jwk(entry)


def test_entries_for_other_uses() -> None:
    for other in ({"use": "enc"}, {"alg": "RS512"}, {"alg": "HS256"}):
        with pytest.raises(BadConfig):
            Key.from_jwk(jwk("RS256", **other))
    with pytest.raises(BadConfig):
        Key.from_jwk(jwk_of("RSA1024"))


def jwk_of(kind: str) -> dict[str, Any]:
    public = serialization.load_pem_public_key(pair(kind)[1].encode())
    made: dict[str, Any] = jwt.get_algorithm_by_name("RS256").to_jwk(public, as_dict=True)
    return made


def test_a_jwks_from_a_file(tmp_path: Path) -> None:
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
def test_an_address_that_is_not_https(url: str) -> None:
    with pytest.raises(BadConfig):
        Jwks("me", url=url)


def test_neither_or_both() -> None:
    for wrong in ({}, {"url": URL, "file": "x"}):
        with pytest.raises(BadConfig):
            Jwks("me", **wrong)
    with pytest.raises(BadConfig):
        Jwks("", url=URL)


class Answers(BaseHTTPRequestHandler):
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
        """Quiet."""


@pytest.fixture(scope="module")
def issuer_url() -> Iterator[str]:
    Answers.body = document(jwk("RS256", kid="k1"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_real_fetch(issuer_url: str) -> None:
    keys = KeySet(jwks=[Jwks("me", url=f"{issuer_url}/jwks")])
    assert keys.verify_fresh(by("me"), now_s=NOW).sub == "ann"


@pytest.mark.parametrize("path", ["/elsewhere", "/gone", "/huge"])
def test_a_fetch_is_bounded_and_follows_nothing(issuer_url: str, path: str) -> None:
    with pytest.raises((OSError, ValueError)):
        fetch_bytes(issuer_url + path)
    assert [type(error) for error in KeySet(jwks=[Jwks("me", url=issuer_url + path)]).refresh(now_s=NOW)] == [
        Unavailable
    ]
