"""What an emitter is made with."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

from tidings.builder import PublicationBuilder
from tidings.errors import BadConfig
from tidings.models.registry import SHARED, Registry
from tidings.publishers import PublisherKind, kind_of

DEFAULT_URL = "redis://localhost:6379/0"
DEFAULT_PREFIX = "tidings:"
TIMEOUT_S = 5.0
BATCH_MAX = 1000
_ONE_WAY: dict[PublisherKind, str] = {
    "queue": "ack=True needs an answer, and a queue goes one way; use the hub's redis:// or http:// URL",
    "socketio": "ack=True: Socket.IO servers tell an emitter nothing; use an Emitter with a tidings hub's URL",
}


class Options:
    """What both emitters are made with, checked. See `Emitter` for the meaning."""

    __slots__ = ("api_key", "batch_max", "prefix", "publication_max_bytes", "timeout_s", "url")

    def __init__(
        self,
        url: str,
        *,
        prefix: str,
        timeout_s: float,
        api_key: str | None,
        publication_max_bytes: int,
        batch_max: int,
    ) -> None:
        if not (math.isfinite(timeout_s) and timeout_s > 0):
            raise BadConfig(f"timeout_s is {timeout_s}; it is a number of seconds above 0")
        if publication_max_bytes < 1 or batch_max < 1:
            raise BadConfig("publication_max_bytes and batch_max must be at least 1")
        self.url, self.prefix, self.timeout_s, self.api_key = url, prefix, timeout_s, api_key
        self.publication_max_bytes, self.batch_max = publication_max_bytes, batch_max

    def builder(self) -> PublicationBuilder:
        """The pure part of an emitter with these settings."""
        one_way = _ONE_WAY.get(kind_of(self.url), "")
        return PublicationBuilder(
            publication_max_bytes=self.publication_max_bytes, registry=Registry(SHARED), one_way=one_way
        )

    def no_replies(self, operation: str) -> BadConfig:
        """The error for an operation that needs a reply, where the URL only takes publications."""
        return BadConfig(
            f"{operation} needs a reply from a hub, and {self.redacted_url()} only takes publications; "
            "use an Emitter with the hub's redis:// or http:// URL"
        )

    def redacted_url(self) -> str:
        """The URL without user, password and query, for `repr` and logs."""
        scheme, _, rest = self.url.partition("://")
        place = rest.partition("?")[0].rpartition("@")[2]
        return f"{scheme}://{place}"


def read_environment(environ: Mapping[str, str] | None) -> tuple[str, str | None]:
    """URL and API key from `TIDINGS_URL` and `TIDINGS_API_KEY`; the key only where it is used."""
    values = os.environ if environ is None else environ
    url = values.get("TIDINGS_URL") or DEFAULT_URL
    return url, (values.get("TIDINGS_API_KEY") or None) if kind_of(url) == "http" else None
