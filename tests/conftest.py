"""Fixtures that tests of several folders share."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.network.certificates import Authority
from support.processes.database import Database, start_database
from support.processes.rabbit import RabbitProcess
from support.processes.redis import RedisProcess


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the settings of whoever runs it."""
    for name in [name for name in os.environ if name.startswith("TIDINGS_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """One redis-server for all tests that only use it. Whoever kills or pauses one starts an own."""
    server = RedisProcess(tmp_path_factory.mktemp("redis")).start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def shared_rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitProcess]:
    """One RabbitMQ for all tests that only use it, also over TLS. Whoever kills or pauses one starts an own."""
    folder = tmp_path_factory.mktemp("rabbit")
    server = RabbitProcess(folder / "server", authority=Authority.make(folder / "authority")).start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def queue() -> str:
    """The name of a queue that no other test uses."""
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture(scope="session")
def database_of() -> Iterator[Callable[[str], Database]]:
    """One database of each kind for all tests, started when it is first asked for; each test has its own table."""
    running: dict[str, Database] = {}

    def found(kind: str) -> Database:
        if kind not in running:
            running[kind] = start_database(kind)
        return running[kind]

    yield found
    for database in running.values():
        database.stop()


@pytest.fixture
def prefix() -> str:
    """A key prefix that no other test uses: nobody has to flush."""
    return f"test-{secrets.token_hex(4)}:"


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, without a tidings.toml."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
