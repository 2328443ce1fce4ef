"""Authorization of HTTP API requests by API key."""

from __future__ import annotations

import hmac
from hashlib import sha256

from flask import Request

from tidings.errors import Forbidden, Unauthorized
from tidings_hub.config.settings import Settings
from tidings_hub.core.access import Origins
from tidings_hub.engine.protocols.http_host import hostname, is_loopback_name
from tidings_hub.metrics import Metrics

_SAME_ORIGIN = Origins()


class ApiKeys:
    """The API keys of a node. Several keys can be valid, so that one can be rotated while the other is in use.

    With `--dev` and without keys, programs on this machine may use the API, and pages of `origins`.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._allow_keyless = settings.dev
        self._origins = settings.origin_policy()
        self._metrics = metrics
        self._replace(settings)

    def update(self, settings: Settings) -> None:
        """Accept only the keys of `settings` from now on. SIGHUP replaces the settings."""
        if settings.api_keys is not self._keys:
            self._replace(settings)

    def _replace(self, settings: Settings) -> None:
        self._keys = settings.api_keys
        # All digests have the same length, so that the time of a comparison does not depend on the length of a key.
        self._digests = [sha256(key.get_secret_value().encode()).digest() for key in self._keys]
        self.required = bool(self._digests) or not self._allow_keyless

    def check(self, request: Request) -> None:
        """Return if the request is authorized.

        Raises:
            Unauthorized: the request has no key or an unknown one.
            Forbidden: no key is required, but the request is not of this machine.
        """
        if not self.required:
            self._check_local(request)
            return
        authorization = request.headers.get("Authorization", "")
        if not self.accepts(authorization):
            self._metrics.api_unauthorized += 1
            scheme, _, key = authorization.partition(" ")
            raise Unauthorized(self._advice(is_sent=scheme.lower() == "bearer" and bool(key.strip())))

    def accepts(self, authorization: str) -> bool:
        """Whether an Authorization header, decoded as Latin-1, has a key of this node."""
        scheme, _, key = authorization.partition(" ")
        digest = sha256(key.strip().encode("latin-1", "replace")).digest()
        # Always compare with all keys, so that the response time does not depend on which key matched.
        matches = sum([hmac.compare_digest(digest, known_digest) for known_digest in self._digests])
        return bool(matches) and scheme.lower() == "bearer"

    def _check_local(self, request: Request) -> None:
        """Refuse the requests of foreign pages. A browser sends their POSTs without JSON to every address.

        Such a page names this machine in the Host header, or its own name, which it rebinds to 127.0.0.1.
        """
        if not is_loopback_name(hostname(request.host)):
            raise Forbidden("--dev without API keys accepts requests to localhost only; set api_keys")
        origin = request.headers.get("Origin")
        policies = (_SAME_ORIGIN, self._origins)
        if not any(policy.allows(origin, request.host, request.is_secure) for policy in policies):
            raise Forbidden("--dev without API keys refuses this page; add its origin to the setting origins")

    def _advice(self, *, is_sent: bool) -> str:
        if not self._digests:
            return "this hub has no API keys: add one to the setting api_keys"
        if is_sent:
            return "the hub does not know this API key; compare it with the hub's setting api_keys"
        return "send an API key: Authorization: Bearer <API key>, which emitters and commands do with TIDINGS_API_KEY"
