"""The protocols of publishers, which send publications and notifications to a broker (PROTOCOL.md section 7).

A publisher takes encoded bodies (`publication.encode_body`) and returns a receipt or an error for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from tidings.errors import Forbidden, TidingsError
from tidings.receipts import NotificationReceipt, Receipt
from tidings.wire.channels import namespace_of
from tidings.wire.control import Command, CommandResult, History, NodeRecord
from tidings.wire.cursor import Cursor
from tidings.wire.notification import Notification
from tidings.wire.presence import Presence
from tidings.wire.reports import Report, ReportQuery

# How long a broker remembers an id (PROTOCOL.md section 7). A caller may repeat its ids after minutes.
# Ids that the emitter makes are only for its own retries.
CALLER_ID_S = 300
OWN_ID_S = 30
# How much of a batch a broker stores in one step, so that it accepts all of it or nothing. Redis runs nothing else
# during a step: with this many items it takes one to two milliseconds.
STEP_MAX = 100
STEP_MAX_BYTES = 262_144

# The error of every call after `close`.
CLOSED = "this publisher was closed; make a new one"

PublishResult = Receipt | TidingsError
NotifyResult = NotificationReceipt | TidingsError


@dataclass(frozen=True, slots=True)
class OutgoingPublication:
    """One publication to send to a broker.

    `channel` is a valid channel. `body` comes from `encode_body` and contains the same `id`. The broker remembers the
    id for `idempotency_s` seconds (0: not at all). `wants_report`: its options request a delivery report. `user`: whose
    client chose the id, empty for backends. Otherwise a client could publish first with the id of another sender, whose
    publication would be taken for a repetition.
    """

    channel: str
    body: bytes
    id: str
    idempotency_s: int = OWN_ID_S
    wants_report: bool = False
    user: str = ""

    @property
    def sender_and_id(self) -> str:
        """What the broker remembers in the channel. Neither a user nor an id contains the slash."""
        return f"{self.user}/{self.id}" if self.user else self.id


@dataclass(frozen=True, slots=True)
class OutgoingNotification:
    """One notification to hand over. `body`: the notification as JSON.

    `has_caller_id`: the caller chose the id. If not, only a retry of the publisher can repeat it.
    """

    notification: Notification
    has_caller_id: bool = True
    body: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "body", self.notification.encode())

    @property
    def id(self) -> str:
        """The notification's id."""
        return self.notification.id

    @property
    def channel(self) -> str:
        """The user's own channel, in which the inbox of the user is published."""
        return f"user:{self.notification.user}"


Outgoing = OutgoingPublication | OutgoingNotification
OutgoingResult = Receipt | NotificationReceipt | TidingsError


class Publisher(Protocol):
    """Publishes to a broker, for code that may block. Threads may share it."""

    def publish(self, items: Sequence[OutgoingPublication], *, timeout_s: float) -> list[PublishResult]:
        """Publish `items` in one round trip, in order. Returns one receipt or error per item, in order.

        Returns within `timeout_s` seconds. Raises nothing for what a broker can report: a rejected item has its error
        in its place. If the broker does not reply, every item has an error: `Unavailable` if the broker has none of
        them, `TimedOut` if it may have them. Publishing them again with the same ids is safe.
        """

    def close(self) -> None:
        """Close all connections. A publish after this fails with `Unavailable`. Idempotent."""


@runtime_checkable
class Notifier(Protocol):
    """Hands notifications to the notification service. A publisher to Socket.IO servers lacks it."""

    def notify(self, items: Sequence[OutgoingNotification], *, timeout_s: float) -> list[NotifyResult]:
        """Hand over `items`, in order. Returns one receipt or error per item, in order. Otherwise as `publish`."""


@runtime_checkable
class NodeQueries(Protocol):
    """Requests that nodes or the broker reply to. Publishers that only send (queues, Socket.IO servers) lack it."""

    def send_command(self, command: Command, *, timeout_s: float) -> CommandResult:
        """Run a command on every node. Returns when all nodes that received it have replied, or after `timeout_s`.

        Raises:
            TidingsError: a node rejected it.
            Unavailable: no node received it. TimedOut: it may or may not have run.
        """

    def history(self, channel: str, *, since: Cursor | None, limit: int, timeout_s: float) -> History:
        """The first `limit` stored publications after `since`; without `since` the last ones.

        Raises:
            UnknownNamespace, Unavailable, TimedOut.
        """

    def report(self, query: ReportQuery, *, timeout_s: float) -> Report:
        """The delivery report of a publication that requested one. Its `channel` and `cursor` are set.

        Raises:
            NotFound: no node has a report any more, where that can be known.
            Unavailable, TimedOut: no reply within `timeout_s` seconds.
        """

    def nodes(self, *, timeout_s: float) -> list[NodeRecord]:
        """All live nodes, sorted by name.

        Raises:
            Unavailable, TimedOut.
        """

    def presence(self, channel: str, *, limit: int, timeout_s: float) -> Presence:
        """The users in a channel. For more than `limit` users only their number.

        Raises:
            Forbidden: the channel's namespace has no presence.
            Unavailable, TimedOut: no reply within `timeout_s` seconds.
        """


class HubPublisher(Publisher, Notifier, NodeQueries, Protocol):
    """A publisher that also takes notifications, and through which nodes reply."""


class AsyncPublisher(Protocol):
    """As `Publisher`, for asyncio. One event loop per object."""

    async def publish(self, items: Sequence[OutgoingPublication], *, timeout_s: float) -> list[PublishResult]:
        """As `Publisher.publish`."""

    async def close(self) -> None:
        """As `Publisher.close`."""


@runtime_checkable
class AsyncNotifier(Protocol):
    """As `Notifier`, for asyncio."""

    async def notify(self, items: Sequence[OutgoingNotification], *, timeout_s: float) -> list[NotifyResult]:
        """As `Notifier.notify`."""


@runtime_checkable
class AsyncNodeQueries(Protocol):
    """As `NodeQueries`, for asyncio."""

    async def send_command(self, command: Command, *, timeout_s: float) -> CommandResult:
        """As `NodeQueries.send_command`."""

    async def history(self, channel: str, *, since: Cursor | None, limit: int, timeout_s: float) -> History:
        """As `NodeQueries.history`."""

    async def report(self, query: ReportQuery, *, timeout_s: float) -> Report:
        """As `NodeQueries.report`."""

    async def nodes(self, *, timeout_s: float) -> list[NodeRecord]:
        """As `NodeQueries.nodes`."""

    async def presence(self, channel: str, *, limit: int, timeout_s: float) -> Presence:
        """As `NodeQueries.presence`."""


class AsyncHubPublisher(AsyncPublisher, AsyncNotifier, AsyncNodeQueries, Protocol):
    """As `HubPublisher`, for asyncio."""


def no_presence(channel: str) -> Forbidden:
    """The error for a channel of a namespace without presence."""
    return Forbidden(
        f"the namespace {namespace_of(channel)!r} has no presence; set presence = true in its rule to enable it"
    )
