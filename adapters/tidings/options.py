"""Options, each written once: those of an emitter, of `emit` and of `push_model`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Required, TypedDict

from tidings.errors import BadConfig
from tidings.models.describe import ModelOptions
from tidings.number_checks import check_count, check_seconds
from tidings.publishers import PublisherKind, kind_of

DEFAULT_URL = "redis://localhost:6379/0"
DEFAULT_PREFIX = "tidings:"
TIMEOUT_S = 5.0
BATCH_MAX = 1000
# Why publications through such a URL cannot be acknowledged.
_NO_ACKS: dict[PublisherKind, str] = {
    "queue": "ack=True needs a reply, and a queue only takes publications; use the hub's redis:// or http:// URL",
    "socketio": "ack=True: Socket.IO servers do not reply to an emitter; use an Emitter with a tidings hub's URL",
}

# The error of a notification through a publisher that takes none.
NO_INBOX = (
    "notify needs a hub with a notification service, and this publisher takes no notifications; "
    "use an Emitter with the hub's redis:// URL"
)
_NO_INBOX: dict[PublisherKind, str] = {
    "socketio": NO_INBOX,
}


class TargetOptions(TypedDict, total=False):
    """Where a publication goes: exactly one of the three.

    `channel`: one channel. `channels`: several. `user`: the user's own channel, `user:<user>`.
    """

    channel: str | None
    channels: Iterable[str] | None
    user: str | None


class EventOptions(TargetOptions, total=False):
    """The options of `emit`. `id`: the publication's id; repeating it within 5 minutes publishes nothing new."""

    id: str | None


class NotificationOptions(TypedDict, total=False):
    """The options of `notify`, besides the user.

    `title`: one line of 1 to 200 characters. `body`: at most 2,000, with line feeds. Both are text, not HTML.
    `url`: where a click leads: an absolute http(s) URL or a path that begins with one `/`. `icon`: likewise, an image.
    `data`: anything that JSON can represent, for the page.
    `id`: repeating it for the same user within 7 days stores nothing new.
    `group`: the notification replaces an unread one of the same group, or is collected with it.
    `expires_in_s`: it leaves the inbox after so many seconds, at most 366 days.
    """

    title: Required[str]
    body: str | None
    url: str | None
    icon: str | None
    data: object
    id: str | None
    group: str | None
    expires_in_s: float | None


class NotifyOptions(NotificationOptions, total=False):
    """The options of `notify`: one of `user` and `users` (up to 1,000), and what the notification is."""

    user: str | None
    users: Iterable[str] | None


class PushOptions(TargetOptions, ModelOptions, total=False):
    """The options of `push_model`: where it goes, and what of the object is sent."""


class Options:
    """The settings of an emitter, checked. See `Emitter` for their meaning."""

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
        _check_type(url, str, "url", "text")
        _check_type(prefix, str, "prefix", "text")
        _check_type(api_key, str | None, "api_key", "text")
        check_seconds(timeout_s, "timeout_s")
        check_count(publication_max_bytes, "publication_max_bytes")
        check_count(batch_max, "batch_max")
        self.url, self.prefix, self.timeout_s, self.api_key = url, prefix, timeout_s, api_key
        self.publication_max_bytes, self.batch_max = publication_max_bytes, batch_max

    @property
    def no_acks(self) -> str:
        """Why publications cannot be acknowledged with this URL; empty if they can."""
        return _NO_ACKS.get(kind_of(self.url), "")

    def no_replies(self, operation: str) -> BadConfig:
        """The error for an operation that needs a reply, where the URL only takes publications."""
        return BadConfig(
            f"{operation} needs a reply from a hub, and {self.redacted_url()} only takes publications; "
            "use an Emitter with the hub's redis:// or http:// URL"
        )

    @property
    def no_inbox(self) -> str:
        """Why this URL takes no notifications; empty if it does."""
        return _NO_INBOX.get(kind_of(self.url), "")

    def redacted_url(self) -> str:
        """The URL without user, password and query, for `repr` and logs."""
        scheme, _, location = self.url.partition("://")
        host_and_path = location.partition("?")[0].rpartition("@")[2]
        return f"{scheme}://{host_and_path}"


def _check_type(value: object, kind: type | UnionType, name: str, form: str) -> None:
    """Reject a value of another type. Frameworks pass what their configuration has."""
    if not isinstance(value, kind):
        raise BadConfig(f"{name} must be {form}, not a {type(value).__name__}")


def read_environment(environ: Mapping[str, str] | None) -> tuple[str, str | None]:
    """URL and API key from `TIDINGS_URL` and `TIDINGS_API_KEY`. The key is None unless the URL is http(s)."""
    values = os.environ if environ is None else environ
    url = values.get("TIDINGS_URL") or DEFAULT_URL
    return url, (values.get("TIDINGS_API_KEY") or None) if kind_of(url) == "http" else None
