"""Deliveries of notifications: a push to one subscription, or a webhook. What is due, and what came of one try."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from tidings_notifications.core.counts import InboxCounts
from tidings_notifications.core.notification import Category, StoredNotification
from tidings_notifications.core.push_subscription import StoredSubscription


@dataclass(frozen=True, slots=True)
class Sent:
    """The other side has accepted it."""


@dataclass(frozen=True, slots=True)
class Gone:
    """The subscription does not exist any more. It can be deleted."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again later. `after_ms`: the time that the other side asks for; None: it does not ask for one."""

    after_ms: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The other side will never accept it. `reason` has its words."""

    reason: str


Outcome = Sent | Gone | Retry | Failed


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """A delivery to try now. `claim`: the claim of the process that tries it. `attempt`: 1 for the first one.

    `counts`: those of the user's inbox at the claim. `subscription`: only for a push.
    """

    id: str
    claim: str
    method: str
    notification: StoredNotification
    category: Category
    counts: InboxCounts
    subscription: StoredSubscription | None
    attempt: int

    @property
    def host(self) -> str:
        """Where it goes. The rest of such an address can be a secret."""
        address = self.category.webhook if self.subscription is None else self.subscription.endpoint
        return urlsplit(address).hostname or ""


class Sender(Protocol):
    """Sends deliveries of one method."""

    def submit(self, deliveries: Sequence[DueDelivery], done: Callable[[DueDelivery, Outcome], None]) -> None:
        """Begin to send. `done` is called once for each of them, from any thread."""
