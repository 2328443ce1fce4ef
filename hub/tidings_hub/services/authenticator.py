"""Checking the tokens of clients: signature, expiry, revocation, and a limit on failures per address."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from tidings.errors import Expired, Revoked, TidingsError, TooFast, Unauthorized
from tidings.tokens import Claims, KeySet
from tidings_hub.config.settings import Settings
from tidings_hub.core.access import Revocations
from tidings_hub.core.failure_limit import FailureLimit
from tidings_hub.metrics import Metrics

# The user name that a client without a token gets under `dev` begins with this.
ANONYMOUS_PREFIX = "anonymous-"


class Authenticator:
    """Turns a client's token into claims. `revocations` is shared with the hub, which adds to it."""

    def __init__(
        self,
        settings: Settings,
        keys: KeySet | None,
        revocations: Revocations,
        metrics: Metrics,
        *,
        wall_s: Callable[[], float],
    ) -> None:
        self._dev = settings.dev
        self._keys = keys
        self._revocations = revocations
        self._metrics = metrics
        self._wall_s = wall_s
        self._failures = FailureLimit(settings.auth_failures_per_minute)

    def apply_settings(self, settings: Settings, keys: KeySet | None) -> None:
        """Check the next tokens by these settings and keys."""
        self._dev, self._keys = settings.dev, keys

    def authenticate(self, token: object, remote: str) -> Claims:
        """The claims of a token that a client at the address `remote` sent. May wait for a key set to be fetched.

        Without a token: under `dev` the claims of a new anonymous user, otherwise an error.

        Raises:
            Unauthorized, Expired, Revoked: the token is not valid (any more).
            TooFast: the token is not valid, and neither were too many others from that address.
        """
        if token is None and self._dev:
            return Claims(sub=f"{ANONYMOUS_PREFIX}{secrets.token_hex(4)}", expires_at_s=None, channels=("*",))
        try:
            if not isinstance(token, str) or self._keys is None:
                raise Unauthorized("send a token: connect with auth {token: …}")
            claims = self._keys.verify_fresh(token, now_s=self._wall_s())
            if self._revocations.is_revoked(claims, now_s=self._wall_s()):
                raise Revoked
        except TidingsError as error:
            self._metrics.count(self._metrics.auth_failures, error.code.name)
            if not isinstance(error, Expired) and self._failures.add(remote, now_s=self._wall_s()):
                self._metrics.auth_throttled += 1
                raise TooFast("too many invalid tokens from this address; wait a minute") from error
            raise
        return claims
