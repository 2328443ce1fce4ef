"""Inboxes in a database of their own, and a client that knows an inbox only by its events."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from support.processes.database import Database
from tidings.errors import TidingsError
from tidings_notifications.core.notification import Category, NewNotification, Stored
from tidings_notifications.core.page import LIMIT_MAX, InboxPage, PageQuery
from tidings_notifications.inbox import Inbox
from tidings_notifications.store import schema
from tidings_notifications.store.database import Database as InboxDatabase
from tidings_notifications.store.tables import METADATA, event_table, inbox_table, notification_table

CATEGORIES = {
    "order": Category("Orders"),
    "comment": Category(digest_s=60),
    "alert": Category(required=True),
}
DAY_MS = 86_400_000
# A day in 2025. Tests move the time on from here.
START_MS = 1_750_000_000_000


def empty_database(server: Database) -> str:
    """The URL of a new, empty database on this server."""
    name = f"inbox_{secrets.token_hex(4)}"
    if server.kind == "sqlite":
        return f"sqlite:///{server.folder}/{name}.db"
    with server.engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    return sa.make_url(server.url).set(database=name).render_as_string(hide_password=False)


def notification(title: str = "hello", *, user: str = "7", category: str = "order", **fields: Any) -> NewNotification:
    """A notification with an id that no other one has, unless the fields name one."""
    caller_id = fields.pop("caller_id", secrets.token_hex(8))
    return NewNotification(user, category, caller_id, title, **fields)


@dataclass
class Replica:
    """What a client knows of an inbox that applies every event in order."""

    items: dict[str, dict[str, Any]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=lambda: {"unseen": 0, "unread": 0})
    version: int = 0

    def apply(self, event: str, data: dict[str, Any]) -> None:
        """Apply one event. Its version is the next one."""
        assert data["version"] == self.version + 1, (self.version, data)
        self.version, self.counts = data["version"], data["counts"]
        if event == "tidings:notification":
            for id_ in data.get("replaces", ()):
                del self.items[id_]
            self.items[data["item"]["id"]] = data["item"]
            return
        assert event == "tidings:inbox", event
        for change in data["changed"]:
            if change.get("deleted"):
                del self.items[change["id"]]
            else:
                self.items[change["id"]] |= change
        if "all" in data:
            self._apply_all(data["all"])

    def _apply_all(self, subject: dict[str, Any]) -> None:
        changes = {"seen": ("seen_at",), "read": ("seen_at", "read_at"), "archive": ("archived_at",)}
        for id_, item in self.items.items():
            if item["archived_at"] is None and id_ <= subject.get("before", id_):
                for name in changes[subject["state"]]:
                    if item[name] is None:
                        item[name] = subject["at"]

    def listed(self, *, archived: bool) -> list[dict[str, Any]]:
        """The items of one list, newest first."""
        items = [item for item in self.items.values() if (item["archived_at"] is not None) == archived]
        return sorted(items, key=lambda item: str(item["id"]), reverse=True)


@dataclass
class InboxBench:
    """One database with inboxes. `now_ms`: the time, which tests move on."""

    database: InboxDatabase
    inbox: Inbox
    now_ms: int = START_MS

    def store(self, *batch: NewNotification) -> list[Stored | TidingsError]:
        """Store one batch."""
        return self.inbox.store(batch, self.now_ms)

    def page(self, user: str = "7", **query: Any) -> InboxPage:
        """One page."""
        return self.inbox.page(user, PageQuery(**query), self.now_ms)

    def titles(self, user: str = "7", **query: Any) -> list[object]:
        """The titles of one page."""
        return [item["title"] for item in self.page(user, **query).items]

    def ids(self, *titles: str, user: str = "7") -> list[str]:
        """The ids of listed notifications with these titles, in the order of the titles."""
        items = [item for archived in (False, True) for item in self.all_items(user, archived=archived)]
        by_title = {str(item["title"]): str(item["id"]) for item in items}
        return [by_title[title] for title in titles]

    def all_items(self, user: str, *, archived: bool) -> list[dict[str, Any]]:
        """All items of one list, page by page."""
        items: list[dict[str, Any]] = []
        before = None
        while True:
            page = self.page(user, archived=archived, before=before, limit=LIMIT_MAX)
            items += page.items
            if page.next is None:
                return items
            before = page.next

    def events(self, user: str = "7") -> list[tuple[str, dict[str, Any]]]:
        """The events of a user in the outbox, in order."""
        columns = event_table.c
        query = sa.select(columns.event, columns.data).where(columns.channel == f"user:{user}")
        with self.database.engine.connect() as connection:
            return [(row.event, json.loads(row.data)) for row in connection.execute(query.order_by(columns.row_no))]

    def rows(self, user: str = "7") -> list[Mapping[str, Any]]:
        """All rows of a user's notifications."""
        query = sa.select(notification_table).where(notification_table.c.user_id == user)
        with self.database.engine.connect() as connection:
            return [dict(row) for row in connection.execute(query.order_by(notification_table.c.id)).mappings()]

    def users(self) -> list[str]:
        """All users with an inbox."""
        with self.database.engine.connect() as connection:
            return list(connection.scalars(sa.select(inbox_table.c.user_id)))

    def check(self) -> None:
        """Counts equal the rows, and a client that applied every event knows what the pages show."""
        for user in self.users():
            stored, recounted = self.inbox.recount(user)
            assert stored == recounted, user
            replica = Replica()
            for event, data in self.events(user):
                replica.apply(event, data)
            assert (replica.counts, replica.version) == (stored.to_wire(), stored.version), user
            for archived in (False, True):
                assert self.all_items(user, archived=archived) == replica.listed(archived=archived), user

    def clear(self) -> None:
        """Remove all rows."""
        with self.database.engine.begin() as connection:
            for table in METADATA.sorted_tables:
                connection.execute(table.delete())


def open_bench(url: str, **options: Any) -> InboxBench:
    """A bench in a database. The tables are created if they are missing."""
    database = InboxDatabase(url)
    schema.migrate(database)
    return InboxBench(database, Inbox(database, CATEGORIES, **options))
