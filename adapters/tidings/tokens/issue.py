"""`issue` makes a token for a client (PROTOCOL.md section 9). Needs the extra `[jwt]`."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Sequence

from tidings.errors import BadData
from tidings.tokens.jws import TOKEN_MAX_BYTES, encode_segment
from tidings.tokens.signing_keys import Key
from tidings.wire.channels import check_patterns, user_channel
from tidings.wire.payload import encode_data


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
        BadChannel: `sub` cannot be part of a channel, or a pattern is none.
        MissingExtra: PyJWT is not installed.
    """
    user_channel(sub)
    now = time.time() if now_s is None else now_s
    claims: dict[str, object] = {"sub": sub, "iat": int(now), "jti": jti or secrets.token_urlsafe(12)}
    if expires_in_s is not None:
        claims["exp"] = math.ceil(now + expires_in_s)
    optional = {"channels": list(check_patterns(list(channels))), "info": info, "aud": audience, "iss": issuer}
    claims |= {name: value for name, value in optional.items() if value not in (None, [])}
    header = {"alg": algorithm, "typ": "JWT"} | ({"kid": kid} if kid else {})
    signing_input = f"{encode_segment(encode_data(header))}.{encode_segment(encode_data(claims))}"
    signature = Key(algorithm, key, private=True).sign(signing_input.encode())
    token = f"{signing_input}.{encode_segment(signature)}"
    if len(token) > TOKEN_MAX_BYTES:
        raise BadData(f"a token of {len(token)} bytes; hubs take at most {TOKEN_MAX_BYTES}; use patterns, or less info")
    return token
