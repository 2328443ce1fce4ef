"""The program, the command and the SQL of docs/outbox.md run unchanged."""

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
    """Return the code blocks of one language that start with this text."""
    code_blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return [block for block in code_blocks if block.startswith(first)]


def test_program_and_command_work(tmp_path: Path, shared_redis: RedisProcess, prefix: str) -> None:
    [program], [command] = blocks("python"), blocks("sh")
    assert len(list(filter(None, program.splitlines()))) <= 15
    hub = HubProcess(tmp_path, extra=f'broker = "{shared_redis.url}"\nprefix = "{prefix}"\n').start()
    try:
        subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment(), check=True, timeout=60)
        name, *arguments = shlex.split(command)
        assert name == "tidings"
        local_arguments = [shared_redis.url if argument.startswith("redis://") else argument for argument in arguments]
        relay = [sys.executable, "-m", "tidings_hub", *local_arguments, "--config", str(hub.config), "--once"]
        subprocess.run(relay, cwd=tmp_path, env=environment(), check=True, timeout=60)
        [publication] = hub.get("/api/channels/orders:1/history")[1]["publications"]
        assert (publication["event"], publication["data"]["model"]) == ("updated_model", {"id": 1, "status": "paid"})
    finally:
        hub.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_sql_works(kind: str, database_of: Callable[[str], Database]) -> None:
    database = database_of(kind)
    engine = database.engine()
    create, insert = blocks("sql", f"-- {NAMES[kind]}")
    [queries] = blocks("sql", "-- any database")
    publications: list[Publication] = []
    broker = MemoryStore()
    broker.write_rules({"orders": (10, 600)})
    broker.add_listener(publications.append)
    try:
        for block in (create, insert, insert, queries):
            with engine.begin() as connection:
                for statement in filter(None, re.sub(r"^--.*\n", "", block).split(";\n")):
                    connection.execute(sa.text(statement.replace(":42", r"\:42").replace('": ', r'"\: ')))
        with Relay(database.url, MemoryPublisher(store=broker)) as relay:
            assert relay.once()
        assert [(entry.channel, entry.event, entry.to_wire()["data"]) for entry in publications] == [
            ("orders:42", "shipped", {"id": 42})
        ] * 2
        assert len({entry.id for entry in publications}) == 2
    finally:
        with engine.begin() as connection:
            connection.execute(sa.text("DROP TABLE IF EXISTS tidings_outbox"))
