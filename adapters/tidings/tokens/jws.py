"""The form of a token: a JWT (RFC 7519) in a compact JWS (RFC 7515), read strictly."""

from __future__ import annotations

import base64
import binascii
import json
import re
from functools import lru_cache
from typing import Any, Self

from tidings.errors import Unauthorized
from tidings.tokens.signing_keys import ALGORITHMS

TOKEN_MAX_BYTES = 8192
_NOT_A_JWT = "it is not a JWT; send the token as it was issued, without quotes and without `Bearer`"
# One message for every token that no key here has signed: whether a key exists would help an attacker.
_NOT_SIGNED = "it is not signed with a key of this hub; send a new one"
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+\Z")
# One spelling per token: the unused bits of a segment's last character must be zero (RFC 4648 section 3.5).
# By the length modulo 4: the padding, and the last characters that are allowed there.
_PADDING = ("", "", "==", "=")
_LAST = (None, "", "AQgw", "AEIMQUYcgkosw048")
# Longer headers are not cached, so that what clients send takes little memory.
_CACHED_MAX = 256


class Reason(str):
    """Why a token is rejected: a note of the error, for a log. `kind` is the same for every token with this fault."""

    __slots__ = ("kind",)
    kind: str

    def __new__(cls, text: str, kind: str) -> Self:
        """A text for a log, and its kind."""
        reason = super().__new__(cls, text)
        reason.kind = kind
        return reason


def malformed(reason: str) -> Unauthorized:
    """The error for text that is no token. `reason` is a note of the error, for the log."""
    return _rejection(_NOT_A_JWT, Reason(reason, reason))


def too_long() -> Unauthorized:
    """The error for a text that is longer than `TOKEN_MAX_BYTES`."""
    problem = f"it is longer than {TOKEN_MAX_BYTES} bytes; name fewer channels in it, or patterns such as orders:*"
    return _rejection(problem, Reason(problem, problem))


def not_signed(reason: str, *values: str) -> Unauthorized:
    """The error for a token that no key here has signed. `reason % values` is a note of the error, for the log."""
    return _rejection(_NOT_SIGNED, Reason(reason % values, reason))


def bad_claim(problem: str, reason: str = "") -> Unauthorized:
    """The error for a correctly signed token with a wrong claim. Its sender learns which claim it is."""
    return _rejection(problem, Reason(reason or problem, problem))


def _rejection(text: str, reason: Reason) -> Unauthorized:
    error = Unauthorized(f"token rejected: {text}")
    error.add_note(reason)
    return error


def parse_token(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a token. The signature is not checked yet.

    Raises:
        Unauthorized: the token is malformed, or its header has an unknown algorithm or extension.
    """
    parts = token.split(".")
    if len(parts) != 3:
        raise malformed("it does not consist of three parts, separated by dots")
    header = _cached_header(parts[0]) if len(parts[0]) <= _CACHED_MAX else _parse_header(parts[0])
    return header, _object(decode_segment(parts[1]))


def _parse_header(segment: str) -> dict[str, Any]:
    header = _object(decode_segment(segment))
    # RFC 7515 section 4.1.11: unknown critical extensions must be rejected, and we know none.
    if header.get("alg") not in ALGORITHMS:
        raise not_signed(f"the algorithm %r is none of {', '.join(ALGORITHMS)}", str(header.get("alg"))[:20])
    if "crit" in header or header.get("b64", True) is not True:
        raise not_signed("its header has crit or b64, which are not supported")
    if not isinstance(header.get("kid", ""), str):
        raise not_signed("its kid is not a string")
    return header


# All tokens of an issuer have the same header, or one for each key.
_cached_header = lru_cache(maxsize=64)(_parse_header)


def decode_segment(segment: str) -> bytes:
    """The bytes of one base64url segment.

    Raises:
        Unauthorized: it is not canonical base64url without padding.
    """
    if not _SEGMENT.match(segment):
        raise malformed("a part is empty or not base64url")
    rest = len(segment) % 4
    allowed = _LAST[rest]
    if allowed is not None and segment[-1] not in allowed:
        raise malformed("a part is not canonical base64url")
    return binascii.a2b_base64(segment.replace("-", "+").replace("_", "/") + _PADDING[rest])


def encode_segment(plain: bytes) -> str:
    """`plain` as base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(plain).rstrip(b"=").decode()


def _object(encoded: bytes) -> dict[str, Any]:
    """A JSON object without repeated names, NaN or Infinity."""
    try:
        parsed = _DECODER.decode(encoded.decode())
    except (ValueError, RecursionError):
        raise malformed("header or claims are not JSON, or have a name twice") from None
    if not isinstance(parsed, dict):
        raise malformed("header or claims are not a JSON object")
    return parsed


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a repeated name")
    return members


def _reject_constant(name: str) -> object:
    raise ValueError(name)


_DECODER = json.JSONDecoder(object_pairs_hook=_without_repeats, parse_constant=_reject_constant)
