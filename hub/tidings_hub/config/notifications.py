"""Settings of notifications (docs/notifications.md), the table `[notifications]`: the service, and the categories."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Literal, Protocol
from urllib.parse import urlsplit

from pydantic import field_validator

from tidings.errors import BadConfig
from tidings_hub.config.fields import SettingsModel, setting
from tidings_hub.config.network import local_url
from tidings_hub.config.web_push import WebPush

# Nodes send another value with each request, and the service repeats it: the response belongs to that request.
REQUEST_HEADER = "Tidings-Request"
# What the hub's secret signs: nodes and the service derive the same key from it.
_KEY_PURPOSE = b"tidings notifications"
_CATEGORY = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_LISTEN = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:/@\s]+):([0-9]{1,5})\Z")
_PORT_MAX = 65_535


class NotificationCategory(SettingsModel):
    """A kind of notification, `[notifications.categories.<name>]`. Backends can only use categories that are named."""

    label: str = setting("", "What a preferences page shows; empty: the name of the category")
    required: bool = setting(default=False, about="Whether users cannot switch it off")
    digest_s: int = setting(
        0,
        "Seconds for which notifications of one user and group are collected into one with a count, which expires with"
        " the last of them; 0: not at all",
        ge=0,
        le=604_800,
    )
    web_push: Literal["never", "unseen", "always"] = setting(
        "unseen",
        "Whether a notification is pushed, if `[notifications.web_push]` has a key: `unseen` after `push_after_s` if"
        " its user has not seen it by then, `always` at once",
    )
    push_after_s: int = setting(30, "Seconds for which a notification waits to be seen", ge=0, le=604_800)
    urgency: Literal["very-low", "low", "normal", "high"] = setting(
        "normal", "How soon a phone that saves its battery receives the push (RFC 8030)"
    )
    webhook: str = setting(
        "",
        "https URL that receives what was not seen after `push_after_s`, for mail or SMS, signed with the secret of"
        " `[hooks]` (http only with its `allow_private`)",
    )

    @field_validator("webhook")
    @classmethod
    def _webhook(cls, value: str) -> str:
        parts = urlsplit(value)
        # The property raises ValueError if it is no port.
        is_plain = parts.scheme in {"http", "https"} and parts.hostname and parts.username is None and parts.port != 0
        if value and not (is_plain and not parts.fragment and value.isascii() and value.isprintable()):
            raise ValueError("webhook must be an address like https://shop.example/mail, without a user or a fragment")
        return value


class Notifications(SettingsModel):
    """The notification service, `[notifications]`. Its metrics are at `/metrics` of its own address."""

    database: str = setting(
        "",
        "Its database: `sqlite:///tidings.db`, `postgresql://…`, `mariadb://…` or `mysql://…`. Without `url`,"
        " `tidings serve` starts the service",
        shown=False,
    )
    listen: str = setting(
        "127.0.0.1:8010",
        "`host:port` at which the service answers nodes; port 0, for `tidings notifications` only, selects a free one",
    )
    url: str = setting(
        "", "Where nodes reach the service, such as `http://10.0.0.7:8010`; empty: at `listen`, if `database` is set"
    )
    categories: dict[str, NotificationCategory] = setting(
        {}, "The categories, each a table `[notifications.categories.<name>]`"
    )
    web_push: WebPush = setting(WebPush(), "Web Push, the table `[notifications.web_push]`")
    keep_days: int = setting(
        90,
        "Days for which a notification is kept",
        ge=1,
        le=3650,
        policy="delete it",
        metric="notifications_deleted",
    )
    stream_max: int = setting(
        100_000,
        "Notifications of emitters on Redis that wait for the service, for each bucket of a cluster",
        ge=100,
        le=100_000_000,
        policy="reject further ones with `unavailable`",
        metric="notifications_waiting",
    )
    dead_max: int = setting(
        10_000,
        "Notifications in the dead-letter stream, about",
        ge=1,
        le=10_000_000,
        policy="discard the oldest",
        metric="notifications_dead",
    )
    threads: int = setting(8, "Requests of nodes handled at a time; others wait", ge=1, le=256)
    connections: int = setting(
        256,
        "Connections of nodes. Probes have room beside them",
        ge=8,
        le=10_000,
        policy="close the one that has been idle longest; answer `unavailable` if none is",
        metric="notifications_connections_shed",
    )
    request_max_bytes: int = setting(
        16_777_216,
        "Bytes of one request of a node",
        ge=65_536,
        le=1_073_741_824,
        policy="answer 413",
        metric="notifications_too_large",
    )

    request_timeout_s: float = setting(
        5.0,
        "Seconds that a node waits for the service",
        ge=0.1,
        le=60,
        policy="answer `unavailable` or `timeout`",
        metric="notification_requests",
    )
    requests_max: int = setting(
        16,
        "Requests of a node to the service at a time for clients, and as many for backends; others wait",
        ge=1,
        le=4096,
    )
    requests_waiting_max: int = setting(
        1024,
        "Requests of a node's clients that wait for others",
        ge=1,
        le=100_000,
        policy="answer `unavailable`",
        metric="notification_requests_refused",
    )
    user_requests_per_minute: int = setting(
        600, "Requests of a user to the inbox, for each node; 0: no limit", ge=0, le=1_000_000
    )
    user_requests_burst: int = setting(
        120,
        "Requests of a user to the inbox at once",
        ge=1,
        le=1_000_000,
        policy="answer `too_fast`",
        metric="inbox_requests_refused",
    )

    @field_validator("listen")
    @classmethod
    def _listen(cls, value: str) -> str:
        listen_address(value)
        return value

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        return service_address(value)

    def service_url(self) -> str | None:
        """The URL at which nodes reach the service. None: there is none, or it listens on a port that only it knows."""
        host, port = listen_address(self.listen)
        if self.url or not self.database or not port:
            return self.url or None
        return local_url(host, port)

    def check_address(self) -> None:
        """Return if nodes know where the service is, or if there is none.

        Raises:
            BadConfig: it listens on a port that only it knows.
        """
        if self.database and self.service_url() is None:
            raise BadConfig(
                "nodes must know where the service is: name a port in `listen` of [notifications], or `url`"
            )

    @property
    def has_child(self) -> bool:
        """Whether `tidings serve` starts the service: there is a database, and `url` is empty."""
        return bool(self.database) and not self.url

    @field_validator("categories")
    @classmethod
    def _categories(cls, value: dict[str, NotificationCategory]) -> dict[str, NotificationCategory]:
        for name in value:
            if not _CATEGORY.match(name):
                raise ValueError(f"{name!r} cannot be a category: a to z, 0 to 9 and _, first a letter, at most 64")
        return value


class NotificationSettings(SettingsModel):
    """Notifications: an inbox for each user, which a process of its own stores (docs/notifications.md)."""

    notifications: Notifications = setting(Notifications(), "The notification service and its categories, see below")


class SharedSecrets(Protocol):
    """The method of `Settings` that the keys come from."""

    def relay_secrets(self, *, env: Mapping[str, str] | None = None) -> list[str]:
        """See `Settings.relay_secrets`."""


def listen_address(text: str) -> tuple[str, int]:
    """Host and port in `host:port`.

    Raises:
        ValueError: it has another form.
    """
    match = _LISTEN.match(text)
    if match is None or int(match[2]) > _PORT_MAX:
        raise ValueError("an address is host:port, such as 127.0.0.1:8010 or [::1]:8010")
    return match[1].strip("[]"), int(match[2])


def service_address(text: str) -> str:
    """Return `text` without a slash at its end, if it is empty or the URL of a service.

    Raises:
        ValueError: it is something else.
    """
    url = text.rstrip("/")
    parts = urlsplit(url)
    is_plain = not (parts.path or parts.query or parts.fragment or parts.username is not None)
    if url and not (parts.scheme in {"http", "https"} and parts.hostname and is_plain and parts.port != 0):
        raise ValueError("a URL of the service is http://host:port or https://host:port, without a path or a password")
    return url


def service_key(settings: SharedSecrets) -> str:
    """The key that a node sends to the notification service, from the first secret that they share.

    Raises:
        BadConfig: there is no such secret, or it cannot be read.
    """
    return service_keys(settings)[0]


def service_keys(settings: SharedSecrets) -> list[str]:
    """The keys that the notification service accepts: one for each shared secret, so that secrets can be replaced.

    Raises:
        BadConfig: there is no such secret, or one cannot be read.
    """
    secrets = settings.relay_secrets()
    if not secrets:
        raise BadConfig(
            "nodes and the notification service need a shared secret;"
            " set `secret` (TIDINGS_SECRET) or relay_secret to the same value for both"
        )
    return [hmac.new(secret.encode(), _KEY_PURPOSE, hashlib.sha256).hexdigest() for secret in secrets]
