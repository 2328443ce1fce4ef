"""docs/outbox.md does what it says: its program, its command and its SQL, as they are printed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from support.processes.database import KINDS, Database
from support.processes.hub import ROOT, HubProcess, environment
from support.processes.redis import RedisProcess
from tidings.contrib.outbox import Relay
from tidings.publishers.memory.publisher import MemoryPublisher
from tidings.publishers.memory.store import MemoryStore
from tidings.wire.publication import Publication

TEXT = (ROOT / "docs" / "outbox.md").read_text(encoding="utf-8")
NAMES = {"postgresql": "PostgreSQL", "mariadb": "MariaDB", "sqlite": "SQLite"}


def blocks(language: str, first: str = "") -> list[str]:
    """The blocks of one language that begin with these words."""
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return [block for block in found if block.startswith(first)]


def test_the_program_and_the_command(tmp_path: Path, shared_redis: RedisProcess, prefix: str) -> None:
    [program], [command] = blocks("python"), blocks("sh")
    assert len(list(filter(None, program.splitlines()))) <= 15
    hub = HubProcess(tmp_path, extra=f'broker = "{shared_redis.url}"\nprefix = "{prefix}"\n').start()
    try:
        subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment(), check=True, timeout=60)
        name, *arguments = shlex.split(command)
        assert name == "tidings"
        there = [shared_redis.url if each.startswith("redis://") else each for each in arguments]
        relay = [sys.executable, "-m", "tidings_hub", *there, "--config", str(hub.config), "--once"]
        subprocess.run(relay, cwd=tmp_path, env=environment(), check=True, timeout=60)
        [said] = hub.get("/api/channels/orders:1/history")[1]["publications"]
        assert (said["event"], said["data"]["model"]) == ("updated_model", {"id": 1, "status": "paid"})
    finally:
        hub.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_the_sql(kind: str, database_of: Callable[[str], Database]) -> None:
    database = database_of(kind)
    engine = database.engine()
    create, insert = blocks("sql", f"-- {NAMES[kind]}")
    [questions] = blocks("sql", "-- any database")
    seen: list[Publication] = []
    broker = MemoryStore()
    broker.write_rules({"orders": (10, 600)})
    broker.add_listener(seen.append)
    try:
        for block in (create, insert, insert, questions):
            with engine.begin() as connection:
                for statement in filter(None, re.sub(r"^--.*\n", "", block).split(";\n")):
                    connection.execute(sa.text(statement.replace(":42", r"\:42").replace('": ', r'"\: ')))
        with Relay(database.url, MemoryPublisher(store=broker)) as relay:
            assert relay.once()
        assert [(each.channel, each.event, each.to_wire()["data"]) for each in seen] == [
            ("orders:42", "shipped", {"id": 42})
        ] * 2
        assert len({each.id for each in seen}) == 2
    finally:
        with engine.begin() as connection:
            connection.execute(sa.text("DROP TABLE IF EXISTS tidings_outbox"))
