"""Who may use the HTTP API: the bearers of its keys."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha256

from flask import Request

from tidings.errors import Forbidden, Unauthorized
from tidings_hub.metrics import Metrics

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Keys:
    """The API keys of a node; several, so that one can be replaced while the other still holds.

    `open_`: under `--dev` without keys anybody on this machine may.
    """

    def __init__(self, keys: Iterable[str], *, open_: bool, metrics: Metrics) -> None:
        self._open = open_
        self._metrics = metrics
        self.use(keys)

    def use(self, keys: Iterable[str]) -> None:
        """Only these from now on."""
        # Digests are of one length: comparing them tells nothing about a key's.
        self._digests = [sha256(key.encode()).digest() for key in keys]
        self.needed = bool(self._digests) or not self._open

    def check(self, request: Request) -> None:
        """Returns if the request may go on.

        Raises:
            Unauthorized: no key, or none of ours.
            Forbidden: no key is needed here, but the request names another host: a foreign page that
                rebinds its own name to this machine would (DNS rebinding).
        """
        if not self.needed:
            if _hostname(request.host) not in _LOOPBACK:
                raise Forbidden("--dev without API keys answers to localhost only; set api_keys")
            return
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        # Werkzeug gives header bytes as Latin-1.
        digest = sha256(key.strip().encode("latin-1", "replace")).digest()
        # All of them, always: the time must not tell which one came near.
        right = sum(hmac.compare_digest(digest, known) for known in self._digests)
        if scheme.lower() != "bearer" or not right:
            self._metrics.api_unauthorized += 1
            raise Unauthorized(
                "send Authorization: Bearer <API key>"
                if self._digests
                else "this hub has no API keys: add one to the setting api_keys"
            )


def _hostname(host: str) -> str:
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0].lower()
