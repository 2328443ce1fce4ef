"""A database that answers, but stores no notification: a full disk that still has room for small rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from support.notification_node import NotificationNode
from support.waiting import wait_until
from tidings_notifications.writer import FAILURES_MAX

REASON = "no space left on device"
FULL = f"""
CREATE TRIGGER disk_is_full BEFORE INSERT ON tidings_notification
BEGIN SELECT RAISE(FAIL, '{REASON}'); END
"""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NotificationNode]:
    process = NotificationNode(tmp_path).start()
    yield process
    process.stop()


def notify(node: NotificationNode, id_: str) -> int:
    fields = {"category": "mention", "user": "7", "title": "T", "id": id_}
    return node.hub.request("POST", "/api/notifications", fields)[0]


def execute(node: NotificationNode, statement: str) -> None:
    with node.database.engine().begin() as connection:
        connection.execute(sa.text(statement))


def state_at_node(node: NotificationNode) -> str:
    return str(node.hub.get("/readyz")[1]["checks"]["notifications"])


def test_service_is_not_ready_while_the_database_stores_no_notification(node: NotificationNode) -> None:
    assert notify(node, "before") == 200
    execute(node, FULL)
    for number in range(FAILURES_MAX):
        assert notify(node, f"lost-{number}") == 503
    status, body = node.service.request("GET", "/readyz")
    assert status == 503
    assert REASON in body["checks"]["database"]
    assert REASON in node.service.log.read_text()
    wait_until(lambda: state_at_node(node) == "not ready", why="the node has asked the service")
    assert node.hub.get("/readyz")[0] == 200
    execute(node, "DROP TRIGGER disk_is_full")
    # A service that is not ready still stores, so that it is ready again.
    assert notify(node, "after") == 200
    assert node.service.request("GET", "/readyz")[0] == 200
    wait_until(lambda: state_at_node(node) == "ok", why="the node has asked the service again")
