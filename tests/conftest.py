"""Fixtures that tests of several folders share. With pytest-xdist, each process has servers of its own."""

from __future__ import annotations

import gc
import os
import re
import secrets
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from _pytest.nodeid import coerce_node_id
from hypothesis import HealthCheck, settings

from support.network.certificates import Authority
from support.processes.database import Database, start_database
from support.processes.rabbit import RabbitProcess
from support.processes.redis import RedisProcess

# `nohup` and background jobs of a shell ignore these, and each program that a test starts would inherit that.
_INHERITED_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)


# Other processes may take the core from an example at any time: its time says nothing about the code.
settings.register_profile("tidings", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tidings")


def pytest_configure() -> None:
    """Let programs that tests start receive signals, however pytest was started."""
    for number in _INHERITED_SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN:
            # A handler is reset when a program starts; to pytest itself the signal still does nothing.
            signal.signal(number, lambda *_: None)


@pytest.fixture(scope="module", autouse=True)
def _collect_garbage() -> Iterator[None]:
    """Collect what the tests of a file left. A socket that they did not close is then their failure, not another's."""
    yield
    gc.collect()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test its own id: pytest-xdist runs tests with equal ids only once.

    Schemathesis makes one test for each operation of the API, all with the id of their function.
    """
    for item in items:
        if not item.nodeid.endswith(item.name):
            # pytest has no public way. If this one stops working, the check below fails.
            item._id = coerce_node_id(f"{item.nodeid}{item.name.removeprefix(item.nodeid.rpartition('::')[2])}")
    repeated = sorted(test_id for test_id, count in Counter(item.nodeid for item in items).items() if count > 1)
    if repeated:
        raise pytest.UsageError(f"tests with equal ids: {', '.join(repeated)}")
    # Every process of pytest-xdist must collect the same ids.
    addresses = [item.nodeid for item in items if re.search(r"\bat 0x[0-9a-f]+", item.nodeid)]
    if addresses:
        raise pytest.UsageError(f"tests whose ids change with each process: {', '.join(addresses)}")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the developer's settings and terminal from the tests."""
    for name in [name for name in os.environ if name.startswith("TIDINGS_")]:
        monkeypatch.delenv(name)
    # argparse wraps its help at the width of the terminal.
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """One redis-server for all tests that only use it. A test that kills or pauses Redis starts its own."""
    server = RedisProcess(tmp_path_factory.mktemp("redis"))
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisProcess]:
    """A redis-server of the test's own, which it may kill, pause and configure."""
    (tmp_path / "redis").mkdir()
    process = RedisProcess(tmp_path / "redis").start()
    yield process
    process.stop()


@pytest.fixture(scope="session")
def shared_rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitProcess]:
    """One RabbitMQ, also with TLS, for all tests that only use it. A test that kills or pauses one starts its own."""
    folder = tmp_path_factory.mktemp("rabbit")
    server = RabbitProcess(folder / "server", authority=Authority.make(folder / "authority"))
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def queue() -> str:
    """The name of a queue that no other test uses."""
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture(scope="session")
def database_of() -> Iterator[Callable[[str], Database]]:
    """Returns the database of a kind and starts it at the first call. Each test creates its own table."""
    databases: dict[str, Database] = {}

    def database(kind: str) -> Database:
        if kind not in databases:
            databases[kind] = start_database(kind)
        return databases[kind]

    yield database
    for running in databases.values():
        running.stop()


@pytest.fixture
def prefix() -> str:
    """A key prefix that no other test uses, so that no test needs to flush Redis."""
    return f"test-{secrets.token_hex(4)}:"


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, without a tidings.toml."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
