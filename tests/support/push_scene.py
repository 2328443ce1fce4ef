"""A scene whose user also has a browser at a push service, with a checker of what was stored, shown and pushed."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import sqlalchemy as sa

from support.network.push_service import PushService
from support.notification_scene import NotificationScene
from support.processes.database import Database
from support.processes.hub import token
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings_notifications.web_push.vapid import VapidKey

# `at_once` is pushed after the commit, `later` only after `make_due`.
_OPTIONS = """[notifications.web_push]
vapid_key_file = "{key_file}"
contact = "mailto:ops@shop.example"
hosts = ["{host}"]
allow_private = true
[notifications.categories.at_once]
web_push = "unseen"
push_after_s = 0
[notifications.categories.later]
web_push = "unseen"
push_after_s = 600
"""
USER = "7"


class PushScene(NotificationScene):
    """`page` is a page of the user that stays open, and `push_service` has the user's browser."""

    def __init__(self, folder: Path, redis: RedisProcess, database: Database, push_service: PushService) -> None:
        key_file = folder / "vapid.pem"
        VapidKey.create(key_file)
        super().__init__(folder, redis, database, options=_OPTIONS.format(key_file=key_file, host=push_service.host))
        self.push_service = push_service

    def start(self) -> PushScene:
        """Start all, connect the page and subscribe the browser."""
        super().start()
        self.page = self.client(USER)
        body = {"subscription": self.push_service.subscribe().to_json()}
        headers = {"Authorization": f"Bearer {token(USER)}"}
        # The node answers 503 until it has noticed that the service has started.
        wait_until(lambda: self.hub.request("POST", "/inbox/push-subscriptions", body, headers)[0] == 200)
        return self

    def see_all(self) -> None:
        """The user opens the inbox on another device. After a failure of the service, the node tries it again soon."""
        headers = {"Authorization": f"Bearer {token(USER)}"}

        def is_seen() -> bool:
            status, answer, _ = self.hub.request("POST", "/inbox/mark", {"action": "seen", "all": True}, headers)
            assert status in (200, 503), answer
            return status == 200

        wait_until(is_seen, why="the node reaches the service")

    def pushes(self) -> dict[str, int]:
        """How many pushes of each title have arrived at the push service."""
        return dict(Counter(str(message["title"]) for message in self.push_service.messages()))

    def deliveries(self) -> int:
        """Deliveries that have not ended."""
        with self.database.engine().connect() as connection:
            return int(connection.scalar(sa.text("SELECT count(*) FROM tidings_delivery")) or 0)

    def make_due(self) -> None:
        """Let the times of deliveries be over: of categories, next attempts, and claims of killed services."""
        with self.database.engine().begin() as connection:
            connection.execute(sa.text("UPDATE tidings_delivery SET due_ms = 0"))

    def check(self, ids: list[str], *, pushed: dict[str, int] | None = None, after_gap: bool = False) -> None:
        """Each id is stored once and shown once, counts are right, nothing waits, and it was pushed so often.

        `pushed`: how often; once each if it is None. `after_gap`: the page has to load its inbox again.
        """
        self.wait_idle()
        wait_until(lambda: self.deliveries() == 0, within_s=30, why=lambda: f"{self.deliveries()} deliveries wait")
        self.check_stored(ids)
        shown, state = self._loaded() if after_gap else self._received(len(ids))
        assert sorted(shown) == sorted(f"Title of {id_}" for id_ in ids)
        with self.database.engine().connect() as connection:
            row = connection.execute(sa.text("SELECT unseen, unread, version FROM tidings_inbox")).one()
        assert state == ({"unseen": row.unseen, "unread": row.unread}, row.version)
        expected = {f"Title of {id_}": number for id_, number in (pushed or dict.fromkeys(ids, 1)).items() if number}
        assert self.pushes() == expected

    def _received(self, number: int) -> tuple[list[str], tuple[dict[str, int], int]]:
        """The titles that the page has received, with the newest counts and version."""
        self.page.wait(
            lambda page: len(page.records_of("notification")) >= number, within_s=20, why="the notifications"
        )
        # A second one would arrive now.
        time.sleep(0.1)
        records = self.page.records_of("notification")
        events = [*records, *self.page.records_of("inbox")]
        assert sorted(event["version"] for event in events) == list(range(1, len(events) + 1))
        newest = max(events, key=lambda event: int(event["version"]))
        return [record["item"]["title"] for record in records], (newest["counts"], newest["version"])

    def _loaded(self) -> tuple[list[str], tuple[dict[str, int], int]]:
        """The titles that a page loads after a gap, with counts and version."""
        self.page.wait(lambda page: page.records_of("gap"), within_s=20, why="the gap")
        answer = self.page.request("tidings:inbox", {})
        return [item["title"] for item in answer["items"]], (answer["counts"], answer["version"])
