"""A hub in memory, for tests of the web layer. It numbers and stores publications as a real hub does."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from tidings.errors import Forbidden, NotFound, TidingsError, Unauthorized, Unavailable, UnknownNamespace
from tidings.publishers.base import OutgoingPublication
from tidings.receipts import Receipt
from tidings.tokens import Claims
from tidings.wire.channels import namespace_of
from tidings.wire.control import Command, CommandResult, NodeRecord
from tidings.wire.cursor import Cursor
from tidings.wire.presence import Presence
from tidings.wire.publication import Publication, decode
from tidings.wire.reports import Count, Report, ReportQuery
from tidings_hub.config.settings import Settings
from tidings_hub.metrics import Metrics
from tidings_hub.services.api import RowPage
from tidings_hub.services.backend_notifications import BackendNotifications
from tidings_hub.services.user_inbox import InboxService

API_KEY = "k3y-of-a-test-backend-A"
OLD_API_KEY = "k3y-of-a-test-backend-B"


class SmallHub:
    """Implements `NodeApi`. With `down` the broker is unreachable. `histories`: the publications of each channel."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metrics = Metrics()
        self.inbox = InboxService(settings, self._metrics, wall_s=time.time)
        self.notifications = BackendNotifications(self.inbox, self._metrics, size=8)
        self.histories: dict[str, list[Publication]] = {}
        self.present: dict[str, dict[str, bytes]] = {}
        self.revoked: dict[str, float] = {}
        self.rows: list[dict[str, object]] = []
        self.commands: list[Command] = []
        self.missing: tuple[str, ...] = ()
        self.reports: dict[tuple[str, str], str] = {}
        self.is_settled = True
        self.down = False
        self.bug: Exception | None = None
        self._ids: dict[tuple[str, str], Receipt] = {}
        self._seq = 0

    @property
    def settings(self) -> Settings:
        return self._settings

    @property
    def metrics(self) -> Metrics:
        return self._metrics

    def authenticate(self, token: object, remote: str) -> Claims:
        if not isinstance(token, str):
            raise Unauthorized
        return Claims(sub=token, expires_at_s=2_000_000_000.0)

    def publish(self, items: Sequence[OutgoingPublication]) -> list[Receipt | TidingsError]:
        return [self._publish_item(item) for item in items]

    def _publish_item(self, item: OutgoingPublication) -> Receipt | TidingsError:
        if self.bug is not None:
            raise self.bug
        if self.down:
            return Unavailable()
        if not self._is_known(item.channel):
            return UnknownNamespace()
        earlier = self._ids.get((item.channel, item.id))
        if earlier is not None:
            return Receipt(earlier.id, earlier.cursor, duplicate=True)
        history = self.histories.setdefault(item.channel, [])
        prev = history[-1].seq if history else self._seq
        self._seq += 1
        message = b"t1 %d %d e1 %b" % (self._seq, prev, item.body)
        history.append(decode(item.channel, message, max_bytes=1_000_000))
        receipt = Receipt(item.id, f"e1.{self._seq}")
        self._ids[item.channel, item.id] = receipt
        return receipt

    def _is_known(self, channel: str) -> bool:
        return self.settings.dev or namespace_of(channel) in self.settings.rules()

    def open_report(self, channel: str, receipt: Receipt) -> None:
        self.reports[receipt.id, channel] = receipt.cursor

    def report(self, query: ReportQuery) -> Report:
        if self.down:
            raise Unavailable
        matches = [
            (name, cursor)
            for (id_, name), cursor in self.reports.items()
            if id_ == query.id and query.channel in {"", name}
        ]
        if not matches:
            raise NotFound
        name, cursor = matches[0]
        nodes = {"n1": Count(2, 1)}
        return Report(query.id, name, cursor, 2, 1, nodes, self.missing, settled=self.is_settled)

    def history(
        self, channel: str, *, since: Cursor | None, limit: int, newest: bool
    ) -> tuple[Cursor, list[Publication]]:
        if self.down:
            raise Unavailable
        if not self._is_known(channel):
            raise UnknownNamespace
        after = since.seq if since is not None else 0
        newer = [item for item in self.histories.get(channel, []) if item.seq > after]
        return Cursor("e1", self._seq), newer[-limit:] if newest else newer[:limit]

    def presence(self, channel: str, *, limit: int | None = None) -> Presence:
        if self.down:
            raise Unavailable
        if not self._is_known(channel):
            raise UnknownNamespace
        if namespace_of(channel) == "user":
            raise Forbidden
        members = self.present.get(channel, {})
        is_listed = limit is None or len(members) <= limit
        return Presence(f"e1.{self._seq}", len(members), members if is_listed else None)

    def channels(self, *, after: str | None, limit: int, local_only: bool) -> RowPage:
        rows: list[dict[str, object]] = [
            {"channel": name, "connections": len(history)} for name, history in self.histories.items()
        ]
        return self._page(rows, local_only=local_only)

    def connections(self, *, after: str | None, limit: int, local_only: bool) -> RowPage:
        return self._page(self.rows, local_only=local_only)

    def _page(self, rows: list[dict[str, object]], *, local_only: bool) -> RowPage:
        if self.down and not local_only:
            raise Unavailable
        return RowPage(rows, 1, () if local_only else self.missing)

    def run_command(self, command: Command) -> CommandResult:
        if self.down:
            raise Unavailable
        arguments = command.arguments
        if "channel" in arguments and not self._is_known(str(arguments["channel"])):
            raise UnknownNamespace
        if command.revocation is not None:
            name, until_s = command.revocation
            self.revoked[name] = until_s
        matching_rows = [row for row in self.rows if arguments.get("user") in (None, row["user"])]
        matching_rows = [row for row in matching_rows if arguments.get("connection") in (None, row["connection"])]
        if command.name in {"disconnect", "revoke"}:
            self.rows = [row for row in self.rows if row not in matching_rows]
        self.commands.append(command)
        return CommandResult(len(matching_rows), 1, self.missing)

    def nodes(self) -> list[NodeRecord]:
        if self.down:
            raise Unavailable
        by_transport = {"websocket": 2, "polling": 1, "sse": 0}
        return [NodeRecord(name, "here:1", "0", 1.0, 2.0, by_transport, 3, 4, 5) for name in ("n1", "n2")]

    def health(self) -> Mapping[str, object]:
        return {"up_s": time.monotonic()}

    def ready(self) -> tuple[bool, Mapping[str, object]]:
        return not self.down, {"broker": not self.down}
