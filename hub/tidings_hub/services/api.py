"""What the web layer needs of a hub. `tidings_hub.services.hub.Hub` fits; tests bring a small one of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tidings.errors import TidingsError
from tidings.publishers.base import OutgoingPublication
from tidings.receipts import Receipt
from tidings.wire.control import Command, CommandResult, NodeRecord
from tidings.wire.cursor import Cursor
from tidings.wire.presence import Presence
from tidings.wire.publication import Publication
from tidings.wire.reports import Report, ReportQuery
from tidings_hub.config.settings import Settings
from tidings_hub.metrics import Metrics


@dataclass(frozen=True, slots=True)
class RowPage:
    """Rows of all nodes that answered, how many these are, and which live and did not answer."""

    rows: list[dict[str, object]]
    nodes: int
    missing: tuple[str, ...] = ()


class NodeApi(Protocol):
    """One node, as its HTTP API sees it. Every method may block the calling greenlet, none the pump."""

    @property
    def settings(self) -> Settings:
        """What this node runs with."""

    @property
    def metrics(self) -> Metrics:
        """What this node counts."""

    def publish(self, items: Sequence[OutgoingPublication]) -> list[Receipt | TidingsError]:
        """Hands the items to the broker in one round trip; answers each in its place."""

    def open_report(self, channel: str, receipt: Receipt) -> None:
        """Something that asks for a report was published: it can be asked for from now on."""

    def report(self, query: ReportQuery) -> Report:
        """What became of such a publication.

        Raises:
            NotFound, BadRequest, Unavailable, TimedOut.
        """

    def history(
        self, channel: str, *, since: Cursor | None, limit: int, newest: bool
    ) -> tuple[Cursor, list[Publication]]:
        """The position now, and at most `limit` kept publications in order of seq.

        After `since` if it is given; with `newest` the last ones instead of the first.

        Raises:
            BadCursor, UnknownNamespace, Unavailable, TimedOut.
        """

    def presence(self, channel: str, *, limit: int | None = None) -> Presence:
        """Who is in a channel, over all nodes; of more than `limit` users (or the hub's own) only their number.

        Raises:
            UnknownNamespace, Forbidden, Unavailable, TimedOut.
        """

    def channels(self, *, after: str | None, limit: int, local_only: bool) -> RowPage:
        """At least the first `limit` channels after one that somebody listens to: `{"channel", "connections"}`.

        On all nodes, or on this one alone.
        """

    def connections(self, *, after: str | None, limit: int, local_only: bool) -> RowPage:
        """As `channels`: `{"connection", "user", "transport", "channels", "age_s", "node"}`.

        `connection` is a public id: never the Engine.IO sid, which is a secret of its client.
        """

    def run_command(self, command: Command) -> CommandResult:
        """Has every node do something; returns when all have answered, or after a bounded time.

        Raises:
            UnknownNamespace, Unavailable, TimedOut.
        """

    def nodes(self) -> list[NodeRecord]:
        """Every node that lives, by name.

        Raises:
            Unavailable, TimedOut.
        """

    def health(self) -> Mapping[str, object]:
        """That the process answers, and with what: no I/O, no secrets."""

    def ready(self) -> tuple[bool, Mapping[str, object]]:
        """Whether publications flow through this node, and each check that says so."""
