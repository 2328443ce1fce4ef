"""Keys that sign and verify tokens. A key that is too weak is rejected when it is created.

The only file that imports PyJWT, and only its signature algorithms: `jws.py` and `key_set.py` read headers and claims
strictly. Needs the extra `[jwt]`.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from tidings.drivers import load_driver
from tidings.errors import BadConfig, MissingExtra

if TYPE_CHECKING:
    from types import ModuleType

ALGORITHMS = ("HS256", "RS256", "ES256", "EdDSA")
SECRET_MIN_BYTES = 32
RSA_MIN_BITS = 2048
# What others allow as well (Go's crypto/tls). With 100 keys that have an exponent of 3,000 bits, each token without a
# kid would stop a node for 1.6 s.
RSA_MAX_BITS = 8192
_RSA_EXPONENT_MAX_BITS = 32
# If a public key is used as a secret, anyone can sign (CVE-2022-29217, CVE-2026-102268).
_KEY_FILE = re.compile(rb"-----\s*BEGIN|ssh-(rsa|ed25519|dss)\s|ecdsa-sha2-|\"\s*kty\s*\"", re.IGNORECASE)
_FAMILY = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}
_PRIVATE_PARTS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


class Key:
    """One key, for one algorithm only: a secret, or the public or private key of a pair.

    `material` is the secret (HS256; white space at the ends of a text is ignored), or a key in PEM (the others): the
    public key, or with `private` the private key, which signs. `kid` names the key in tokens.

    Raises:
        BadConfig: unknown algorithm, a secret under 32 bytes, a key file as a secret, RSA under 2048 or over 8192 bits.
        MissingExtra: PyJWT is not installed.
    """

    __slots__ = ("_prepared", "_scheme", "algorithm", "kid")

    def __init__(self, algorithm: str, material: str | bytes, *, kid: str | None = None, private: bool = False) -> None:
        if algorithm not in ALGORITHMS:
            raise BadConfig(f"unknown algorithm {algorithm!r}; use one of {', '.join(ALGORITHMS)}")
        if not isinstance(material, str | bytes):
            raise BadConfig(f"a key is a text or bytes, not {type(material).__name__}; is its variable or setting set?")
        # A secret from a file or a variable often ends with a line break. The settings of a hub ignore it as well.
        encoded = material.strip().encode() if isinstance(material, str) else material
        self.algorithm = algorithm
        self.kid = kid or None
        self._scheme = _scheme(algorithm)
        self._prepared = _secret(self._scheme, encoded) if algorithm == "HS256" else self._load_pem(encoded, private)

    @classmethod
    def from_jwk(cls, jwk: dict[str, Any]) -> Key:
        """The public key in one entry of a JWKS (RFC 7517). Private parts are ignored.

        Raises:
            BadConfig: not a public key for signing with RS256, ES256 or EdDSA, or too weak.
        """
        algorithm = _FAMILY.get(str(jwk.get("kty")), "")
        names = (algorithm, "Ed25519") if algorithm == "EdDSA" else (algorithm,)
        uses = jwk.get("key_ops", ["verify"])
        if not algorithm or jwk.get("alg", algorithm) not in names or jwk.get("use", "sig") != "sig":
            raise BadConfig("not a public key for RS256, ES256 or EdDSA")
        kid = jwk.get("kid")
        # A key without `kid` is tried with every token, so a malformed one must not become such a key.
        if not isinstance(kid, str | None) or not isinstance(uses, list) or "verify" not in uses:
            raise BadConfig("a key whose kid is no string, or that is not for verifying")
        public = {name: value for name, value in jwk.items() if name not in _PRIVATE_PARTS}
        try:
            parsed = _scheme(algorithm).from_jwk(public)
            pem = parsed.public_bytes(*_pem_format())
        except (_jwt().PyJWTError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise BadConfig("a malformed key in a JWKS") from error
        return cls(algorithm, pem, kid=kid)

    def sign(self, signing_input: bytes) -> bytes:
        """The signature (RFC 7515 section 5.1) over `<header>.<claims>`."""
        signature: bytes = self._scheme.sign(signing_input, self._prepared)
        return signature

    def verify(self, signing_input: bytes, signature: bytes) -> bool:
        """Whether the signature was made with this key. An HMAC is compared in constant time."""
        try:
            return bool(self._scheme.verify(signing_input, self._prepared, signature))
        except (_jwt().PyJWTError, ValueError):
            return False

    def _load_pem(self, pem: bytes, private: bool) -> Any:
        kind = "private" if private else "public"
        try:
            prepared = self._scheme.prepare_key(pem)
        except (_jwt().PyJWTError, ValueError, TypeError) as error:
            raise BadConfig(f"not a {kind} key in PEM for {self.algorithm}") from error
        # Of cryptography's keys only the private ones have `sign`.
        if hasattr(prepared, "sign") is not private:
            raise BadConfig(f"{self.algorithm} needs the {kind} key here")
        _check_strength(self.algorithm, prepared)
        return prepared


def _secret(scheme: Any, secret: bytes) -> Any:
    if _KEY_FILE.search(secret):
        raise BadConfig("a key for HS256 is a secret, and this is a key file; use RS256, ES256 or EdDSA with it")
    if len(secret) < SECRET_MIN_BYTES:
        raise BadConfig(
            f"a secret for HS256 needs {SECRET_MIN_BYTES} bytes or more; `openssl rand -base64 32` makes a good one"
        )
    try:
        return scheme.prepare_key(secret)
    except _jwt().PyJWTError as error:
        raise BadConfig("a key for HS256 is a secret, and this is a key file") from error


def _check_strength(algorithm: str, prepared: Any) -> None:
    if algorithm == "RS256":
        _check_rsa(prepared)
    if algorithm == "ES256" and prepared.curve.name != "secp256r1":
        raise BadConfig(f"ES256 needs a key on the curve P-256, and this is on {prepared.curve.name}")


def _check_rsa(prepared: Any) -> None:
    if prepared.key_size < RSA_MIN_BITS:
        raise BadConfig(f"an RSA key of {prepared.key_size} bits; at least {RSA_MIN_BITS} are needed")
    public = prepared.public_key() if hasattr(prepared, "sign") else prepared
    if prepared.key_size > RSA_MAX_BITS or public.public_numbers().e.bit_length() > _RSA_EXPONENT_MAX_BITS:
        raise BadConfig(
            f"an RSA key that makes verifying slow; use at most {RSA_MAX_BITS} bits, and an exponent of at most"
            f" {_RSA_EXPONENT_MAX_BITS} bits (65537 is usual)"
        )


@cache
def _pem_format() -> tuple[Any, Any]:
    return load_driver("cryptography", "this key needs cryptography: pip install 'tidings[jwt]'", _load_pem_format)


def _load_pem_format() -> tuple[Any, Any]:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return Encoding.PEM, PublicFormat.SubjectPublicKeyInfo


def _scheme(algorithm: str) -> Any:
    try:
        return _jwt().get_algorithm_by_name(algorithm)
    except NotImplementedError as error:
        raise MissingExtra(f"{algorithm} needs cryptography: pip install 'tidings[jwt]'") from error


@cache
def _jwt() -> ModuleType:
    return load_driver("jwt", "tokens need PyJWT: pip install 'tidings[jwt]'", _load_jwt)


def _load_jwt() -> ModuleType:
    import jwt
    import jwt.algorithms

    return jwt
