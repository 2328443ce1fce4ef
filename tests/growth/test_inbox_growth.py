"""Nothing in a hub, its notification service and their database grows with what a client requests (SECURITY.md)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from growth.inbox_attacks import INBOX_ATTACKS
from support.notification_node import NotificationNode
from support.processes.hub import ROOT
from support.waiting import wait_until
from tidings_notifications.web_push.vapid import VapidKey

_ACTS = 100
# Buffers of other work, and labels with a fixed set of values that appear with their first use.
_ENTRIES_NOISE = 50
_SERIES_NOISE = 20
_EXTRA = """
wsgi = "growth.probe:app"
inbound_rate_per_s = 100000
inbound_burst = 1000000
auth_failures_per_minute = 1000000
stall_warn_s = 600
linger_s = 0.5
recovery_window_s = 1.0
"""
_OPTIONS = """
user_requests_per_minute = 1000000
user_requests_burst = 1000000
[notifications.web_push]
vapid_key_file = "{key_file}"
contact = "mailto:ops@shop.example"
"""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NotificationNode]:
    key_file = tmp_path / "vapid.pem"
    VapidKey.create(key_file)
    process = NotificationNode(tmp_path, options=_OPTIONS.format(key_file=key_file), extra=_EXTRA)
    process.hub.environment["PYTHONPATH"] = f"{ROOT / 'hub'}:{ROOT / 'adapters'}:{ROOT / 'tests'}"
    try:
        yield process.start()
    finally:
        process.stop()


def figures(node: NotificationNode) -> dict[str, int]:
    """What both processes and each table hold now."""
    metrics = node.hub.get("/metrics")[1] + node.service.request("GET", "/metrics")[1]
    with node.database.engine().connect() as connection:
        tables = connection.scalars(sa.text("SELECT name FROM sqlite_master WHERE type = 'table'")).all()
        rows = {name: int(connection.scalar(sa.text(f"SELECT count(*) FROM {name}")) or 0) for name in tables}
    return rows | {
        "entries": node.hub.get("/growth-figures")[1]["entries"],
        "series": len(re.findall(rb"^tidings_", metrics, re.MULTILINE)),
        "log lines": (node.hub.log.read_bytes() + node.service.log.read_bytes()).count(b"\n"),
    }


@pytest.mark.timeout(300)
def test_nothing_grows_with_the_requests_of_clients(node: NotificationNode) -> None:
    """What is left after a while must not depend on the number of acts."""
    noise = {"entries": _ENTRIES_NOISE, "series": _SERIES_NOISE}
    for attack in INBOX_ATTACKS:
        attack(node, _ACTS // 4)
    before = figures(node)
    for attack in INBOX_ATTACKS:
        attack(node, _ACTS)
    grown: dict[str, int] = {}

    def is_over() -> bool:
        now = figures(node)
        # Timers of requests that have ended count until they are due.
        grown.clear()
        grown.update({name: count - before[name] for name, count in now.items()})
        return all(count <= _ACTS // 4 + noise.get(name, 0) for name, count in grown.items())

    wait_until(is_over, within_s=60.0, why=lambda: f"nothing is left of {_ACTS} acts of each kind: {grown}")
