"""Two installations on one machine and one Redis, with the same secret, and the same address of the service."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.ports import free_port
from support.processes.hub import CONFIG, HubProcess, token
from support.processes.redis import RedisProcess
from support.waiting import wait_until

QUICK = "drain_s = 2\ndrain_notice_s = 0\n"


def inbox(hub: HubProcess) -> tuple[int, list[str]]:
    """The titles in the inbox of user 7."""
    status, page, _ = hub.request("GET", "/inbox", headers={"Authorization": f"Bearer {token('7')}"})
    return status, [item["title"] for item in page.get("items", [])]


def notify(hub: HubProcess, title: str) -> int:
    fields = {"category": "mention", "user": "7", "title": title, "id": title}
    return hub.request("POST", "/api/notifications", fields)[0]


def state(hub: HubProcess) -> str:
    return str(hub.get("/readyz")[1]["checks"].get("notifications"))


@pytest.mark.parametrize(("database", "prefix"), [(1, "tidings:"), (0, "staging:")])
def test_notifications_of_another_database_or_prefix_do_not_cross(
    redis: RedisProcess, tmp_path: Path, database: int, prefix: str
) -> None:
    """The service of staging cannot listen where that of production does, and its nodes used that of production."""
    port, hubs = free_port(), {}
    for name, number, key in (("production", 0, "tidings:"), ("staging", database, prefix)):
        table = f'[notifications]\ndatabase = "sqlite:///{name}.db"\nlisten = "127.0.0.1:{port}"\n'
        folder = tmp_path / name
        folder.mkdir()
        hubs[name] = HubProcess(
            *(folder, "--broker", f"redis://127.0.0.1:{redis.port}/{number}"),
            extra=f'prefix = "{key}"\n{QUICK}',
            config=f"{CONFIG}{table}[notifications.categories.mention]\n",
        )
    production, staging = hubs["production"], hubs["staging"]
    try:
        production.start()
        wait_until(lambda: notify(production, "own") == 200, within_s=60, why=production.log.read_text)
        staging.start()
        wait_until(lambda: state(staging) == "not ready", within_s=60, why=staging.log.read_text)
        assert notify(staging, "foreign") == 503
        assert inbox(staging)[0] == 503
        assert inbox(production) == (200, ["own"])
        assert state(production) == "ok"
        assert "give each installation an address of its own" in staging.log.read_text()
    finally:
        staging.stop()
        production.stop()
