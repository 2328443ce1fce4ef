"""Verifying tokens in a hub (PROTOCOL.md section 9).

The key determines the algorithm, never the token. Needs the extra `[jwt]`.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from tidings.errors import BadChannel, Expired, TidingsError, Unauthorized
from tidings.tokens.jwks import Jwks
from tidings.tokens.jws import TOKEN_MAX_BYTES, TOKEN_REJECTED, decode_segment, parse_token
from tidings.tokens.signing_keys import SECRET_MIN_BYTES, Key
from tidings.wire.channels import PATTERN_MAX, check_patterns, user_channel
from tidings.wire.claims import Claims


class KeySet:
    """All keys of a hub, and the claims that a token must have.

    `leeway_s` is the tolerated difference between clocks. Tokens of the issuer of a `Jwks` are verified only
    with its keys, and its keys verify nothing else.
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
        """The claims of the token, if it is valid at `now_s` (unix seconds).

        Never blocks and fetches nothing: an unknown `kid` only makes the refresh of its `Jwks` due.

        Raises:
            Expired: it was valid until its `exp`.
            Unauthorized: it is not valid for another reason. The message is always the same.
        """
        if not isinstance(token, str) or len(token) > TOKEN_MAX_BYTES:
            raise Unauthorized(TOKEN_REJECTED)
        header, claims = parse_token(token)
        # The issuer only selects among the configured ones. It is trusted once the signature matches its keys.
        source = self._jwks.get(str(claims.get("iss")))
        self._check_signature(token, header, source, now_s)
        self._check_times(claims, now_s)
        self._check_names(claims, issuer=source.issuer if source else self._issuer)
        return _to_claims(claims)

    def verify_fresh(self, token: object, *, now_s: float) -> Claims:
        """As `verify`, but fetches the keys again if the token's `kid` is unknown: its issuer may have rotated keys.

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
        """Fetch every JWKS that is due; blocks. Returns the errors. A source that fails keeps its keys."""
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
        candidates = [key for key in keys if key.algorithm == header["alg"] and (kid is None or key.kid in (None, kid))]
        if source is not None and not candidates:
            source.on_unknown_kid(now_s)
        signing_input, _, encoded = token.rpartition(".")
        signature = decode_segment(encoded)
        # Without a candidate another key is tried, so that an unknown kid takes as long as a bad signature.
        matches = [key.verify(signing_input.encode(), signature) for key in candidates or [self._timing_key]]
        if not candidates or not any(matches):
            raise Unauthorized(TOKEN_REJECTED)

    def _check_times(self, claims: dict[str, Any], now_s: float) -> None:
        exp, nbf, iat = (_number(claims, name) for name in ("exp", "nbf", "iat"))
        latest_s = now_s + self._leeway_s
        if (exp is None and self._require_exp) or (nbf or 0.0) > latest_s or (iat or 0.0) > latest_s:
            raise Unauthorized(TOKEN_REJECTED)
        if exp is not None and exp <= now_s - self._leeway_s:
            raise Expired

    def _check_names(self, claims: dict[str, Any], *, issuer: str) -> None:
        audience = claims.get("aud")
        audiences = [audience] if isinstance(audience, str) else audience
        if self._audience and not (isinstance(audiences, list) and self._audience in audiences):
            raise Unauthorized(TOKEN_REJECTED)
        if issuer and claims.get("iss") != issuer:
            raise Unauthorized(TOKEN_REJECTED)


def _number(claims: dict[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise Unauthorized(TOKEN_REJECTED)
    return float(value)


def _to_claims(claims: dict[str, Any]) -> Claims:
    sub, jti, issuer = (claims.get(name) for name in ("sub", "jti", "iss"))
    if not (isinstance(jti, str | None) and isinstance(issuer, str | None)) or len(jti or "") > PATTERN_MAX:
        raise Unauthorized(TOKEN_REJECTED)
    try:
        user_channel(sub)
        patterns = check_patterns(claims.get("channels", []))
    except BadChannel:
        raise Unauthorized(TOKEN_REJECTED) from None
    return Claims(
        sub=str(sub),
        expires_at_s=_number(claims, "exp"),
        issued_at_s=_number(claims, "iat"),
        jti=jti,
        channels=patterns,
        info=claims.get("info"),
        issuer=issuer,
    )
