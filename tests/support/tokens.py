"""Keys and tokens for tests: properly signed, with any header and claims."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tidings.errors import Unauthorized
from tidings.tokens import KeySet
from tidings.tokens.signing_keys import Key

NOW = 1_800_000_000.0


SECRET = "n7Qe2VYcB5sK0xTfM8rL1uJ9dWzHgA3p"


OTHER = "Zk4mR9wXtE6yUqC1vBnP8sD2fGhJ5aLo"


@cache
def pair(algorithm: str) -> tuple[str, str]:
    """A private key and its public key, as PEM."""
    private_key: Any = {
        "RS256": lambda: rsa.generate_private_key(65537, 2048),
        "RSA1024": lambda: rsa.generate_private_key(65537, 1024),
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "P384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate,
    }[algorithm]()
    private = private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = private_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
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


def assert_rejected(token: object, keys: KeySet = KEYS, now_s: float = NOW) -> None:
    """Assert that the token is rejected, and that its sender does not learn which keys exist."""
    with pytest.raises(Unauthorized) as caught:
        keys.verify(token, now_s=now_s)
    assert type(caught.value) is Unauthorized
    (reason,) = caught.value.__notes__
    text = str(caught.value).removeprefix("token rejected: ")
    is_claim = text == reason or reason.startswith(("nbf is", "iat is"))
    assert is_claim or text in (
        "it is not a JWT; send the token as it was issued, without quotes and without `Bearer`",
        "it is not signed with a key of this hub; send a new one",
    )
