"""What the HTTP API and an app need of the node that they run in.

`node.api.LocalNodeApi` implements it; tests use `support.small_hub`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tidings.errors import TidingsError
from tidings.publishers.base import OutgoingPublication
from tidings.receipts import Receipt
from tidings.tokens import Claims
from tidings.wire.control import Command, CommandResult, NodeRecord
from tidings.wire.cursor import Cursor
from tidings.wire.presence import Presence
from tidings.wire.publication import Publication
from tidings.wire.reports import Report, ReportQuery
from tidings_hub.config.settings import Settings
from tidings_hub.metrics import Metrics
from tidings_hub.services.backend_notifications import BackendNotifications
from tidings_hub.services.user_inbox import InboxService


@dataclass(frozen=True, slots=True)
class RowPage:
    """Rows of all nodes that replied.

    `nodes`: how many replied. `missing`: nodes that are alive and did not reply in time.
    """

    rows: list[dict[str, object]]
    nodes: int
    missing: tuple[str, ...] = ()


class NodeApi(Protocol):
    """One node. Every method may block the calling greenlet; never call one in the pump."""

    @property
    def settings(self) -> Settings:
        """The current settings of this node."""

    @property
    def metrics(self) -> Metrics:
        """The metrics of this node."""

    @property
    def inbox(self) -> InboxService:
        """The requests of clients to their inbox."""

    @property
    def notifications(self) -> BackendNotifications:
        """The notifications of backends."""

    def authenticate(self, token: object, remote: str) -> Claims:
        """The claims of a client's token, see `Authenticator.authenticate`."""

    def publish(self, items: Sequence[OutgoingPublication]) -> list[Receipt | TidingsError]:
        """Publish the items in one round trip; returns one receipt or error for each, in order."""

    def open_report(self, channel: str, receipt: Receipt) -> None:
        """Open the report of a publication that this node has just published and that requests one."""

    def report(self, query: ReportQuery) -> Report:
        """The delivery report of such a publication.

        Raises:
            NotFound, BadRequest, Unavailable, TimedOut.
        """

    def history(
        self, channel: str, *, since: Cursor | None, limit: int, newest: bool
    ) -> tuple[Cursor, list[Publication]]:
        """The current position, and at most `limit` stored publications in order of seq.

        Only those after `since`, if it is not None. With `newest` the last ones, otherwise the first ones.

        Raises:
            BadCursor, UnknownNamespace, Unavailable, TimedOut.
        """

    def presence(self, channel: str, *, limit: int | None = None) -> Presence:
        """The members of a channel over all nodes.

        Only their number if there are more than `limit`, or more than the hub's own limit.

        Raises:
            UnknownNamespace, Forbidden, Unavailable, TimedOut.
        """

    def channels(self, *, after: str | None, limit: int, local_only: bool) -> RowPage:
        """The first `limit` subscribed channels after `after`, each as `{"channel", "connections"}`.

        Of all nodes, or of this node with `local_only`.
        """

    def connections(self, *, after: str | None, limit: int, local_only: bool) -> RowPage:
        """As `channels`, each as `{"connection", "user", "transport", "channels", "age_s", "node"}`.

        `connection` is a public id. It is never the Engine.IO sid, which is a secret of its client.
        """

    def run_command(self, command: Command) -> CommandResult:
        """Send a command to every node; returns when all have replied, or after `control_timeout_s`.

        Raises:
            UnknownNamespace, Unavailable, TimedOut.
        """

    def nodes(self) -> list[NodeRecord]:
        """The records of all nodes that are alive, sorted by name.

        Raises:
            Unavailable, TimedOut.
        """

    def health(self) -> Mapping[str, object]:
        """The body of `/healthz`. No I/O, no secrets."""

    def ready(self) -> tuple[bool, Mapping[str, object]]:
        """Whether publications get through this node, and the checks that decide it."""
