"""Checking the tokens of clients: signature, expiry, revocation, and a limit on failures per address."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable

from tidings.errors import Expired, Revoked, TidingsError, TooFast, Unauthorized, Unavailable
from tidings.tokens import Claims, KeySet
from tidings.tokens.jws import Reason
from tidings_hub.config.settings import Settings
from tidings_hub.core.rates.failure_limit import FailureLimit
from tidings_hub.log import log_rate_limited
from tidings_hub.metrics import Metrics
from tidings_hub.services.revocations import RevocationService

logger = logging.getLogger("tidings.tokens")
# The user name that a client without a token gets under `dev` begins with this.
ANONYMOUS_PREFIX = "anonymous-"


class Authenticator:
    """Turns a client's token into claims, unless `revocations` contains its user or itself."""

    def __init__(
        self,
        settings: Settings,
        keys: KeySet | None,
        revocations: RevocationService,
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
        """The claims of a token that a client at the address `remote` sent.

        If the token's issuer has a JWKS and its `kid` is unknown, this waits for the fetch, at most `jwks_wait_s`.

        Without a token: under `dev` the claims of a new anonymous user, otherwise an error.

        Raises:
            Unauthorized, Expired, Revoked: the token is not valid (any more).
            Unavailable: the keys of the token's issuer are not known. This does not count as a failure.
            TooFast: the token is not valid, and neither were too many others from that address.
            Unavailable: this node has just started, and has not read the revocations yet.
        """
        if token is None and self._dev:
            return Claims(sub=f"{ANONYMOUS_PREFIX}{secrets.token_hex(4)}", expires_at_s=None, channels=("*",))
        if not self._revocations.are_read:
            raise Unavailable("this node has not read the revocations yet; try again")
        try:
            if not isinstance(token, str) or self._keys is None:
                raise _no_token()
            claims = self._keys.verify_fresh(token, now_s=self._wall_s())
            self.check_not_revoked(claims)
        except TidingsError as error:
            self._metrics.count(self._metrics.auth_failures, error.code.name)
            # A note may name keys, so clients do not get it. Each kind of reason has its own line: tokens of an
            # attacker must not hide why those of an application are rejected.
            reason = getattr(error, "__notes__", [str(error)])[0]
            kind = reason.kind if isinstance(reason, Reason) else str(error)
            log_rate_limited(logger, _level(error), kind, "a token was rejected: %s", reason)
            if not isinstance(error, Expired | Unavailable) and self._failures.add(remote, now_s=self._wall_s()):
                self._metrics.auth_throttled += 1
                log_rate_limited(logger, logging.WARNING, "throttled", "%s sends too many invalid tokens", remote)
                raise TooFast("too many invalid tokens from this address; wait a minute") from error
            raise
        return claims

    def check_not_revoked(self, claims: Claims) -> None:
        """Check again after a wait: a revocation that arrived meanwhile has found no session to end.

        Raises:
            Revoked: the user or the token is revoked.
        """
        if self._revocations.is_revoked(claims):
            raise Revoked


def _no_token() -> Unauthorized:
    error = Unauthorized(
        "send a token, in auth {token: <token>}, over HTTP in Authorization: Bearer <token>, or in the query of /sse"
    )
    error.add_note("the client sent none as a text in `auth`, or over /sse in its query or in Authorization")
    return error


def _level(error: TidingsError) -> int:
    # Clients that slept and users that were revoked are usual, and no fault of an issuer.
    return logging.INFO if isinstance(error, Expired | Revoked) else logging.WARNING
