"""A hub on Redis, a notification service and its database, with a checker of what was stored and received."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from support.ports import free_port
from support.processes.client import ClientProcess
from support.processes.database import Database
from support.processes.hub import CONFIG, HubProcess, token
from support.processes.notifications import CATEGORIES, NotificationsProcess
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings import Emitter
from tidings.redis_client.keys import RedisKeys
from tidings_notifications.core.notification import Category
from tidings_notifications.inbox import Inbox
from tidings_notifications.store.database import Database as Store
from tidings_notifications.store.schema import migrate


class NotificationScene:
    """A hub and a service on one Redis. `database` is the scene's own: its tables have fixed names.

    `broker_url`: instead of the URL of `redis`. `options`: lines of `[notifications]`. With them the hub also sends
    requests to the service.
    """

    def __init__(
        self, folder: Path, redis: RedisProcess, database: Database, *, broker_url: str = "", options: str = ""
    ) -> None:
        self.stack = ExitStack()
        self.redis = redis
        self.database = database
        self.prefix = prefix = f"test-{secrets.token_hex(4)}:"
        self.keys = RedisKeys(prefix)
        url = broker_url or redis.url
        port = free_port()
        table = f'[notifications]\nurl = "http://127.0.0.1:{port}"\n{options}\n' if options else ""
        extra = f'broker = "{url}"\nprefix = "{prefix}"\n'
        self.hub = HubProcess(folder, extra=extra, config=CONFIG + table + CATEGORIES)
        self.stack.callback(self.hub.stop)
        self.emitter = self.stack.enter_context(Emitter(url, prefix=prefix))
        self.service = self.new_service(port=port)
        self._store = Store(database.url)
        self.stack.callback(self._store.close)

    def new_service(self, *flags: str, port: int | None = None) -> NotificationsProcess:
        """A further service on the same database."""
        service = NotificationsProcess(self.hub.config, self.database.url, *flags, port=port)
        self.stack.callback(service.stop)
        return service

    def start(self) -> NotificationScene:
        """Create the tables, and start the hub and the service."""
        migrate(self._store)
        self.hub.start()
        self.service.start()
        return self

    def client(self, user: str) -> ClientProcess:
        """A stock client of a user."""
        client = ClientProcess("python-websocket", self.hub.url, token=token(user), channels=[])
        self.stack.callback(client.stop)
        return client.wait_ready()

    def notify(self, user: str, id_: str, *, category: str = "order_shipped", **more: Any) -> None:
        """Notify a user through Redis."""
        self.emitter.notify(category, user=user, title=f"Title of {id_}", id=id_, **more)

    def rows(self) -> dict[str, int]:
        """How many rows each id of a caller has."""
        with self.database.engine().connect() as connection:
            ids = connection.scalars(sa.text("SELECT caller_id FROM tidings_notification"))
            return dict(Counter(ids))

    def waiting(self) -> int:
        """Entries of the stream that are not removed."""
        with self.redis.client() as client:
            return int(client.xlen(self.keys.notifications))

    def pending(self) -> int:
        """Entries that a consumer has read and not acknowledged."""
        with self.redis.client() as client:
            groups = client.xinfo_groups(self.keys.notifications)
            return sum(group["pending"] for group in groups)

    def events(self) -> int:
        """Events in the outbox."""
        with self.database.engine().connect() as connection:
            return int(connection.scalar(sa.text("SELECT count(*) FROM tidings_notification_outbox")) or 0)

    def wait_idle(self, *, within_s: float = 45.0) -> None:
        """Wait until everything is stored and published."""
        wait_until(
            lambda: not self.waiting() and not self.events(),
            within_s=within_s,
            why=lambda: f"{self.waiting()} entries and {self.events()} events: {self.service.log.read_text()[-3000:]}",
        )

    def check_stored(self, ids: list[str]) -> None:
        """Each id has one row, and the counts of each user are those of the rows."""
        assert self.rows() == dict.fromkeys(ids, 1)
        inbox = Inbox(self._store, {"order_shipped": Category()})
        with self.database.engine().connect() as connection:
            users = list(connection.scalars(sa.text("SELECT user_id FROM tidings_inbox")))
        for user in users:
            stored, counted = inbox.recount(user)
            assert stored == counted

    def check_received(self, client: ClientProcess, ids: list[str]) -> None:
        """A client that was always connected has received each notification once, with the counts after it."""
        titles = sorted(f"Title of {id_}" for id_ in ids)
        client.wait(
            lambda self: len(self.records_of("notification")) >= len(ids),
            why=lambda: f"{len(ids)} notifications, not {len(client.records_of('notification'))}",
        )
        time.sleep(0.1)
        records = client.records_of("notification")
        assert sorted(record["item"]["title"] for record in records) == titles
        assert [record["version"] for record in records] == list(range(1, len(ids) + 1))
        assert [record["counts"] for record in records] == [
            {"unseen": number, "unread": number} for number in range(1, len(ids) + 1)
        ]

    def close(self) -> None:
        """End everything."""
        self.stack.close()
