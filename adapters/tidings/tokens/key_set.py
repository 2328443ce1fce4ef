"""Tokens: making them in a backend, checking them in a hub (PROTOCOL.md section 6).

A token is a JWT (RFC 7519) in a JWS (RFC 7515). The algorithm is fixed by the key and
never by the token. Needs the extra `[jwt]`.
"""

from __future__ import annotations

import base64
import json
import math
import re
import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tidings.errors import BadChannel, BadData, Expired, TidingsError, Unauthorized
from tidings.tokens.signing_keys import ALGORITHMS, SECRET_MIN_BYTES, Key
from tidings.wire.channels import user_channel
from tidings.wire.claims import Claims
from tidings.wire.payload import encode_data

if TYPE_CHECKING:
    from tidings.tokens.jwks import Jwks

__all__ = ["TOKEN_MAX_BYTES", "Claims", "KeySet", "issue"]

TOKEN_MAX_BYTES = 8192
PATTERNS_MAX = 1000
_PATTERN_MAX = 200
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+\Z")
_REFUSED = "the token does not hold; send a valid one"


def issue(  # noqa: PLR0913 - each is one optional claim, by name
    sub: str,
    *,
    key: str | bytes,
    algorithm: str = "HS256",
    kid: str | None = None,
    channels: Sequence[str] = (),
    expires_in_s: float | None = 3600,
    info: object = None,
    audience: str | None = None,
    issuer: str | None = None,
    jti: str | None = None,
    now_s: float | None = None,
) -> str:
    """A signed token for the user `sub`, to be handed to that user's client.

    `key` is the secret (HS256) or the private key in PEM (the others). `channels` are the
    channels, or patterns such as `orders:*`, that the client may subscribe to. `jti` is made
    up if not given, so that each token can be revoked by itself.

    Raises:
        BadConfig: a key too weak for `algorithm`, or an unknown algorithm.
        BadChannel: `sub` cannot be part of a channel, or a pattern is none.
        MissingExtra: PyJWT is not installed.
    """
    user_channel(sub)
    now = time.time() if now_s is None else now_s
    claims: dict[str, object] = {"sub": sub, "iat": int(now), "jti": jti or secrets.token_urlsafe(12)}
    if expires_in_s is not None:
        claims["exp"] = math.ceil(now + expires_in_s)
    optional = {"channels": list(_patterns(list(channels))), "info": info, "aud": audience, "iss": issuer}
    claims |= {name: value for name, value in optional.items() if value not in (None, [])}
    header = {"alg": algorithm, "typ": "JWT"} | ({"kid": kid} if kid else {})
    signing_input = f"{_encoded(encode_data(header))}.{_encoded(encode_data(claims))}"
    signature = Key(algorithm, key, private=True).sign(signing_input.encode())
    token = f"{signing_input}.{_encoded(signature)}"
    if len(token) > TOKEN_MAX_BYTES:
        raise BadData(f"a token of {len(token)} bytes; hubs take at most {TOKEN_MAX_BYTES}; use patterns, or less info")
    return token


class KeySet:
    """All keys of a hub, and what tokens must say besides a signature.

    `leeway_s` is the difference of clocks that is forgiven. Keys of a `Jwks` are used for
    tokens of its issuer only, and no other keys are used for those.
    """

    def __init__(
        self,
        keys: Sequence[Key] = (),
        *,
        audience: str = "",
        issuer: str = "",
        leeway_s: float = 10.0,
        require_exp: bool = True,
        jwks: Sequence[Jwks] = (),
    ) -> None:
        self._keys = list(keys)
        self._audience = audience
        self._issuer = issuer
        self._leeway_s = leeway_s
        self._require_exp = require_exp
        self._jwks = {source.issuer: source for source in jwks}
        self._timing_key = Key("HS256", secrets.token_bytes(SECRET_MIN_BYTES))

    def verify(self, token: object, *, now_s: float) -> Claims:
        """What the token says, if it holds at `now_s` (unix seconds).

        Never blocks and fetches nothing: an unknown `kid` only makes its `Jwks` ask for a refresh.

        Raises:
            Expired: it did hold, until its `exp`.
            Unauthorized: anything else, always with the same message.
        """
        if not isinstance(token, str) or len(token) > TOKEN_MAX_BYTES:
            raise Unauthorized(_REFUSED)
        header, claims = _opened(token)
        # Whose keys to use: the issuer is only looked up among the configured ones, and holds once they fit.
        source = self._jwks.get(str(claims.get("iss")))
        self._check_signature(token, header, source, now_s)
        self._check_times(claims, now_s)
        self._check_names(claims, issuer=source.issuer if source else self._issuer)
        return _claims(claims)

    def verify_fresh(self, token: object, *, now_s: float) -> Claims:
        """As `verify`, but fetches the keys anew if the token has a `kid` that its issuer may just have begun to use.

        May block for some seconds: call it in a thread or greenlet, never in the pump.

        Raises:
            Expired, Unauthorized: as `verify`.
        """
        try:
            return self.verify(token, now_s=now_s)
        except Expired:
            raise
        except Unauthorized:
            if not self.is_refresh_due(now_s=now_s):
                raise
        self.refresh(now_s=now_s)
        return self.verify(token, now_s=now_s)

    def is_refresh_due(self, *, now_s: float) -> bool:
        """Whether `refresh` would fetch anything."""
        return any(source.is_due(now_s) for source in self._jwks.values())

    def refresh(self, *, now_s: float) -> list[TidingsError]:
        """Fetches every JWKS that is due; blocks. A source that fails keeps its keys; its error is returned."""
        errors: list[TidingsError] = []
        for source in self._jwks.values():
            try:
                source.refresh(now_s)
            except TidingsError as error:
                errors.append(error)
        return errors

    def _check_signature(self, token: str, header: dict[str, Any], source: Jwks | None, now_s: float) -> None:
        kid = header.get("kid")
        keys = self._keys if source is None else source.keys
        fitting = [key for key in keys if key.algorithm == header["alg"] and (kid is None or key.kid in (None, kid))]
        if source is not None and not fitting:
            source.on_unknown_kid(now_s)
        signing_input, _, encoded = token.rpartition(".")
        signature = _decoded(encoded)
        # Where no key fits, one is tried all the same: an unknown kid takes as long as a bad signature.
        held = [key.verify(signing_input.encode(), signature) for key in fitting or [self._timing_key]]
        if not fitting or not any(held):
            raise Unauthorized(_REFUSED)

    def _check_times(self, claims: dict[str, Any], now_s: float) -> None:
        exp, nbf, iat = (_number(claims, name) for name in ("exp", "nbf", "iat"))
        latest_s = now_s + self._leeway_s
        if (exp is None and self._require_exp) or (nbf or 0.0) > latest_s or (iat or 0.0) > latest_s:
            raise Unauthorized(_REFUSED)
        if exp is not None and exp <= now_s - self._leeway_s:
            raise Expired

    def _check_names(self, claims: dict[str, Any], *, issuer: str) -> None:
        found = claims.get("aud")
        audiences = [found] if isinstance(found, str) else found
        if self._audience and not (isinstance(audiences, list) and self._audience in audiences):
            raise Unauthorized(_REFUSED)
        if issuer and claims.get("iss") != issuer:
            raise Unauthorized(_REFUSED)


def _opened(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, neither of them checked yet against a signature."""
    parts = token.split(".")
    if len(parts) != 3 or not all(_SEGMENT.match(part) for part in parts):
        raise Unauthorized(_REFUSED)
    header, claims = (_object(_decoded(part)) for part in parts[:2])
    # RFC 7515 section 4.1.11: what is critical and not understood must be refused; we understand nothing critical.
    if header.get("alg") not in ALGORITHMS or "crit" in header or header.get("b64", True) is not True:
        raise Unauthorized(_REFUSED)
    if not isinstance(header.get("kid", ""), str):
        raise Unauthorized(_REFUSED)
    return header, claims


def _decoded(segment: str) -> bytes:
    try:
        decoded = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except ValueError:
        raise Unauthorized(_REFUSED) from None
    # One text per token: unused bits of the last sign must be zero (RFC 4648 section 3.5).
    if _encoded(decoded) != segment:
        raise Unauthorized(_REFUSED)
    return decoded


def _encoded(plain: bytes) -> str:
    return base64.urlsafe_b64encode(plain).rstrip(b"=").decode()


def _object(encoded: bytes) -> dict[str, Any]:
    """A JSON object without repeated names, NaN or Infinity."""
    try:
        parsed = _DECODER.decode(encoded.decode())
    except (ValueError, RecursionError):
        raise Unauthorized(_REFUSED) from None
    if not isinstance(parsed, dict):
        raise Unauthorized(_REFUSED)
    return parsed


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def _no_constant(name: str) -> object:
    raise ValueError(name)


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant)


def _number(claims: dict[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise Unauthorized(_REFUSED)
    return float(value)


def _claims(claims: dict[str, Any]) -> Claims:
    sub, jti, issuer = (claims.get(name) for name in ("sub", "jti", "iss"))
    if not (isinstance(jti, str | None) and isinstance(issuer, str | None)) or len(jti or "") > _PATTERN_MAX:
        raise Unauthorized(_REFUSED)
    try:
        user_channel(sub)
        patterns = _patterns(claims.get("channels", []))
    except BadChannel:
        raise Unauthorized(_REFUSED) from None
    return Claims(
        sub=str(sub),
        expires_at_s=_number(claims, "exp"),
        issued_at_s=_number(claims, "iat"),
        jti=jti,
        channels=patterns,
        info=claims.get("info"),
        issuer=issuer,
    )


def _patterns(patterns: object) -> tuple[str, ...]:
    if not isinstance(patterns, list) or len(patterns) > PATTERNS_MAX:
        raise BadChannel(f"channels must be a list of at most {PATTERNS_MAX} channels or patterns")
    for pattern in patterns:
        if not isinstance(pattern, str) or not 0 < len(pattern) <= _PATTERN_MAX or "*" in pattern[:-1]:
            raise BadChannel("a pattern is a channel, or the beginning of one and a final *")
    return tuple(patterns)
