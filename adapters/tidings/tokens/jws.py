"""The form of a token: a JWT (RFC 7519) in a compact JWS (RFC 7515), read strictly."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from tidings.errors import Unauthorized
from tidings.tokens.signing_keys import ALGORITHMS

TOKEN_MAX_BYTES = 8192
# One message for every malformed or forged token: details would help an attacker.
TOKEN_REJECTED = "token rejected: it is not valid here; send a new one"  # noqa: S105 - a message
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+\Z")


def parse_token(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a token. The signature is not checked yet.

    Raises:
        Unauthorized: the token is malformed, or its header has an unknown algorithm or extension.
    """
    parts = token.split(".")
    if len(parts) != 3 or not all(_SEGMENT.match(part) for part in parts):
        raise Unauthorized(TOKEN_REJECTED)
    header, claims = (_object(decode_segment(part)) for part in parts[:2])
    # RFC 7515 section 4.1.11: unknown critical extensions must be rejected, and we know none.
    if header.get("alg") not in ALGORITHMS or "crit" in header or header.get("b64", True) is not True:
        raise Unauthorized(TOKEN_REJECTED)
    if not isinstance(header.get("kid", ""), str):
        raise Unauthorized(TOKEN_REJECTED)
    return header, claims


def decode_segment(segment: str) -> bytes:
    """The bytes of one base64url segment.

    Raises:
        Unauthorized: it is not canonical base64url without padding.
    """
    try:
        decoded = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except ValueError:
        raise Unauthorized(TOKEN_REJECTED) from None
    # One spelling per token: the unused bits of the last character must be zero (RFC 4648 section 3.5).
    if encode_segment(decoded) != segment:
        raise Unauthorized(TOKEN_REJECTED)
    return decoded


def encode_segment(plain: bytes) -> str:
    """`plain` as base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(plain).rstrip(b"=").decode()


def _object(encoded: bytes) -> dict[str, Any]:
    """A JSON object without repeated names, NaN or Infinity."""
    try:
        parsed = _DECODER.decode(encoded.decode())
    except (ValueError, RecursionError):
        raise Unauthorized(TOKEN_REJECTED) from None
    if not isinstance(parsed, dict):
        raise Unauthorized(TOKEN_REJECTED)
    return parsed


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a repeated name")
    return members


def _reject_constant(name: str) -> object:
    raise ValueError(name)


_DECODER = json.JSONDecoder(object_pairs_hook=_without_repeats, parse_constant=_reject_constant)
