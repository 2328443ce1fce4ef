"""Settings of Web Push, the table `[notifications.web_push]`."""

from __future__ import annotations

import re
from typing import Self
from urllib.parse import urlsplit

from pydantic import model_validator

from tidings_hub.config.fields import SettingsModel, setting

# A host with a domain: push services refuse the contact of a machine that they cannot reach. The last label of a
# domain has a letter, that of an IPv4 address has none.
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z](?:[a-z0-9-]*[a-z0-9])?\Z", re.IGNORECASE)
_LOCAL = (".localhost", ".local", ".localdomain", ".internal", ".lan")
_MAILBOX = re.compile(r"mailto:[^@\s<>,?:]+@([^@\s<>,?:]+)\Z", re.IGNORECASE)
_HOST_PATTERN = re.compile(r"(?:\*\.)?[a-z0-9](?:[a-z0-9.:-]*[a-z0-9])?\Z", re.IGNORECASE)


class WebPush(SettingsModel):
    """Web Push, `[notifications.web_push]`. Without `vapid_key_file` nothing is pushed."""

    vapid_key_file: str = setting("", "The file of the private key; `tidings vapid` makes one")
    contact: str = setting("", "Whom a push service can reach: `mailto:ops@shop.example` or an https URL")
    hosts: tuple[str, ...] = setting(
        ("fcm.googleapis.com", "*.push.services.mozilla.com", "web.push.apple.com", "*.notify.windows.com"),
        "The push services; `*.` stands for one or more labels. Subscriptions of other hosts are rejected",
    )
    allow_private: bool = setting(
        default=False, about="Whether pushes may go to loopback, private and other non-public addresses"
    )
    subscriptions_max: int = setting(
        20,
        "Subscriptions of one user",
        ge=1,
        le=1000,
        policy="delete the one unused for longest",
        metric="notifications_subscriptions_dropped",
    )
    timeout_s: float = setting(
        10.0, "Seconds for one push", ge=0.1, le=120, policy="try again later", metric="notifications_pushes"
    )
    connections: int = setting(
        400,
        "Pushes sent at a time; others wait",
        ge=1,
        le=10_000,
        policy="let them wait",
        metric="notifications_pushes_postponed",
    )
    connections_per_host: int = setting(
        100,
        "Pushes sent to one push service at a time",
        ge=1,
        le=10_000,
        policy="try again later",
        metric="notifications_pushes_postponed",
    )

    @property
    def is_enabled(self) -> bool:
        """Whether notifications can be pushed."""
        return bool(self.vapid_key_file)

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if bool(self.vapid_key_file) != bool(self.contact):
            raise ValueError("give both vapid_key_file and contact; `tidings vapid` makes the key")
        if self.contact:
            _check_contact(self.contact)
        if not self.hosts:
            raise ValueError("hosts is empty; without Web Push leave out vapid_key_file")
        for host in self.hosts:
            if not _HOST_PATTERN.match(host):
                raise ValueError(f"hosts: {host!r} is no host; write push.example.com or *.push.example.com")
        return self


def _check_contact(contact: str) -> None:
    """Return if push services accept the `sub` of a token (RFC 8292 section 2.1).

    Raises:
        ValueError: one of them answers 403 to it.
    """
    mailbox = _MAILBOX.match(contact)
    try:
        parts = urlsplit(contact)
        host = mailbox[1] if mailbox else parts.hostname or ""
        is_valid = mailbox is not None or (parts.scheme == "https" and parts.username is None and contact.isascii())
    except ValueError:
        is_valid, host = False, ""
    if not is_valid:
        raise ValueError("contact must be a real address, mailto:ops@shop.example or https://shop.example/contact")
    if not _DOMAIN.match(host) or host.lower().endswith(_LOCAL):
        raise ValueError(
            f"contact: push services refuse {host!r}, which no one can reach; use an address with your domain"
        )
