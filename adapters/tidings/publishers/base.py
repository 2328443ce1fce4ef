"""How an emitter reaches the hub, whatever lies between (PROTOCOL.md section 7).

A publisher takes bodies that are ready (`publication.encode_body`) and says for each
whether the broker has it: a receipt or an error, never silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tidings.errors import TidingsError
from tidings.receipts import Receipt
from tidings.wire.control import Done, History, NodeRecord, Order
from tidings.wire.cursor import Cursor
from tidings.wire.presence import Presence
from tidings.wire.reports import Report, Sought

# How long a broker remembers an id (DESIGN 3). Ids that callers choose stand for something
# that they may repeat after minutes; ids we make serve only our own retries.
CALLER_ID_S = 300
OWN_ID_S = 30

Answer = Receipt | TidingsError


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One publication on its way to a broker.

    `channel` is checked by whoever builds this; `body` comes from `encode_body` and holds
    the same `id`; the broker remembers the id for `idempotency_s` seconds (0: not at all).
    `reported`: its options ask for a report.
    """

    channel: str
    body: bytes
    id: str
    idempotency_s: int = OWN_ID_S
    reported: bool = False


class Publisher(Protocol):
    """A way to a broker for code that may block. Safe to share between threads."""

    def publish(self, items: Sequence[Outgoing], *, timeout_s: float) -> list[Answer]:
        """Publish `items` in one round trip, in order; one answer per item, in order.

        Returns within `timeout_s` seconds. Raises nothing for what a broker can answer: an
        item that was refused has its error in its place, and so have all items when the broker
        did not answer (`Unavailable`: it has none of them; `TimedOut`: it may have them, and
        publishing them again with the same ids is safe).
        """

    def order(self, order: Order, *, timeout_s: float) -> Done:
        """Have every node do something; returns when all that heard it have answered, or after `timeout_s` seconds.

        Raises:
            TidingsError: a node's refusal. Unavailable: no node was told. TimedOut: nobody knows.
        """

    def history(self, channel: str, *, since: Cursor | None, limit: int, timeout_s: float) -> History:
        """After `since` the first `limit` kept publications, without it the last ones.

        Raises:
            UnknownNamespace, Unavailable, TimedOut.
        """

    def report(self, sought: Sought, *, timeout_s: float) -> Report:
        """What became of a publication that asked for a report. Its place (`channel`, `cursor`) is known.

        Raises:
            NotFound: nobody keeps one (any more), where that can be known.
            Unavailable, TimedOut: no answer within `timeout_s` seconds.
        """

    def nodes(self, *, timeout_s: float) -> list[NodeRecord]:
        """Every node that lives, by name.

        Raises:
            Unavailable, TimedOut.
        """

    def presence(self, channel: str, *, limit: int, timeout_s: float) -> Presence:
        """Who is in a channel; of more than `limit` users only their number.

        Raises:
            Forbidden: the channel's namespace has no presence.
            Unavailable, TimedOut: no answer within `timeout_s` seconds.
        """

    def close(self) -> None:
        """Give up all connections. A publish after this fails with `Unavailable`."""


class AsyncPublisher(Protocol):
    """A way to a broker for asyncio. One event loop per object."""

    async def publish(self, items: Sequence[Outgoing], *, timeout_s: float) -> list[Answer]:
        """As `Publisher.publish`."""

    async def order(self, order: Order, *, timeout_s: float) -> Done:
        """As `Publisher.order`."""

    async def history(self, channel: str, *, since: Cursor | None, limit: int, timeout_s: float) -> History:
        """As `Publisher.history`."""

    async def report(self, sought: Sought, *, timeout_s: float) -> Report:
        """As `Publisher.report`."""

    async def nodes(self, *, timeout_s: float) -> list[NodeRecord]:
        """As `Publisher.nodes`."""

    async def presence(self, channel: str, *, limit: int, timeout_s: float) -> Presence:
        """As `Publisher.presence`."""

    async def close(self) -> None:
        """As `Publisher.close`."""
