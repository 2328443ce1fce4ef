"""The error if no sentinel knows a master."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

# What redis-py reports if a server that expects TLS cuts the connection after the first bytes.
_CUT = re.compile("reset by peer|closed by server|Connection lost")


def no_master(redis: Any, service: str, errors: Sequence[Exception], *, is_tls: bool) -> Exception:
    """The error of redis-py, given what each sentinel raised. If all reject the login, a retry cannot succeed."""
    logins = (redis.exceptions.AuthenticationError, redis.exceptions.AuthorizationError)
    texts = "; ".join(dict.fromkeys(str(error)[:100] for error in errors)) or "they have no master of this name"
    if errors and all(isinstance(error, logins) for error in errors):
        kind, text = redis.exceptions.AuthenticationError, f"the sentinels: {texts}; see sentinel_password"
    else:
        kind, text = redis.exceptions.ConnectionError, f"no sentinel knows the master of {service!r}: {texts}"
        if not is_tls and _CUT.search(texts):
            text += "; if the sentinels expect TLS, add sentinel_ssl=true to the URL"
    error: Exception = kind(text)
    return error
