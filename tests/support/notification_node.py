"""A hub without Redis and its notification service on SQLite. The service publishes to the hub over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.ports import free_port
from support.processes.database import Sqlite
from support.processes.hub import CONFIG, HubProcess
from support.processes.notifications import CATEGORIES, NotificationsProcess

NOW_MS = 1_764_000_000_000


class NotificationNode:
    """Both processes. `options`: more lines of `[notifications]`, `extra`: of the hub's own settings."""

    def __init__(self, folder: Path, *, options: str = "", extra: str = "", service_port: int = 0) -> None:
        service_port, hub_port = service_port or free_port(), free_port()
        table = f'[notifications]\nurl = "http://127.0.0.1:{service_port}"\n{options}\n'
        settings = f'port = {hub_port}\norigins = ["https://shop.example", "http://127.0.0.1:{hub_port}"]\n{extra}'
        self.hub = HubProcess(folder, extra=settings, config=CONFIG + table + CATEGORIES)
        self.hub.port = hub_port
        self.database = Sqlite()
        self.service = NotificationsProcess(self.hub.config, self.database.url, port=service_port)

    def start(self) -> NotificationNode:
        """Start both. The service first: a hub that has found none asks again only after a second."""
        self.service.start()
        self.hub.start()
        return self

    def store(self, user: str, id_: str, *, title: str = "T", **more: Any) -> None:
        """Store a notification, past the hub."""
        item = {"category": "order_shipped", "user": user, "title": title, "id": id_, "at_ms": NOW_MS} | more
        status, answer = self.service.request("POST", "/notifications", {"notifications": [item]})
        assert (status, "error" in answer["results"][0]) == (200, False), answer

    def stop(self) -> None:
        """End both. Idempotent."""
        self.service.stop()
        self.hub.stop()
        self.database.stop()
