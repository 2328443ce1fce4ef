"""`issue` makes a token for a client (PROTOCOL.md section 9). Needs the extra `[jwt]`."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Sequence

from tidings.errors import BadChannel, BadData
from tidings.tokens.jws import TOKEN_MAX_BYTES, encode_segment
from tidings.tokens.signing_keys import Key
from tidings.wire.channels import check_channel, check_patterns, user_channel
from tidings.wire.payload import encode_data

# A hub takes a larger `exp` for milliseconds.
LIFETIME_MAX_S = 100_000_000_000


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
    """A signed token for the user `sub`. Send it to that user's client.

    `key` is the secret (HS256) or the private key in PEM (the others). `channels` are the channels, or patterns such
    as `orders:*`, that the client may subscribe to. `info` is what presence shows of the user.
    `jti` identifies the token for `revoke` (default: a random one).

    Raises:
        BadConfig: a key too weak for `algorithm`, or an unknown algorithm.
        BadChannel: `sub` cannot be part of a channel, `channels` is one text, or a pattern covers no channel.
        BadData: `expires_in_s` is no number of seconds, or a claim is not what a hub takes.
        MissingExtra: PyJWT is not installed.
    """
    user_channel(sub)
    for name, text in (("jti", jti), ("issuer", issuer), ("kid", kid)):
        if not isinstance(text, str | None):
            raise BadData(f"{name} is a text, not {type(text).__name__}")
    now = time.time() if now_s is None else now_s
    claims: dict[str, object] = {"sub": sub, "iat": int(now), "jti": jti or secrets.token_urlsafe(12)}
    if expires_in_s is not None:
        claims["exp"] = math.ceil(now + _check_lifetime(expires_in_s))
    optional = {"channels": list(_check_channels(channels)), "info": info, "aud": audience, "iss": issuer}
    claims |= {name: value for name, value in optional.items() if value not in (None, [])}
    header = {"alg": algorithm, "typ": "JWT"} | ({"kid": kid} if kid else {})
    signing_input = f"{encode_segment(encode_data(header))}.{encode_segment(encode_data(claims))}"
    signature = Key(algorithm, key, private=True).sign(signing_input.encode())
    token = f"{signing_input}.{encode_segment(signature)}"
    if len(token) > TOKEN_MAX_BYTES:
        raise BadData(f"a token of {len(token)} bytes; hubs take at most {TOKEN_MAX_BYTES}; use patterns, or less info")
    return token


def _check_lifetime(expires_in_s: object) -> float:
    # Tests issue expired tokens, so it may be negative. NaN is in no range.
    is_number = isinstance(expires_in_s, int | float) and not isinstance(expires_in_s, bool)
    if not is_number or not -LIFETIME_MAX_S < expires_in_s < LIFETIME_MAX_S:  # type: ignore[operator]  # a number here
        raise BadData(f"expires_in_s is a number of seconds, less than {LIFETIME_MAX_S:,}, or None: never")
    return expires_in_s  # type: ignore[return-value]


def _check_channels(channels: object) -> tuple[str, ...]:
    # The characters of one text would be patterns, and "*" among them grants every channel.
    if not isinstance(channels, list | tuple | set | frozenset):
        raise BadChannel('channels is a list of channels or patterns, such as ["orders:*"]')
    patterns = check_patterns(list(channels))
    for pattern in patterns:
        if not pattern.endswith("*"):
            check_channel(pattern)
    return patterns
