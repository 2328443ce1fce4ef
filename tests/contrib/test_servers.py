"""Emitters under gunicorn and uWSGI: real servers whose workers are forked after the emitter has published.

The tests send many requests in parallel. Each receipt's publication reaches the listener exactly once.
"""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.ports import free_port
from support.processes.client import ClientProcess
from support.processes.hub import API_KEY, HubProcess, environment, token
from support.processes.redis import RedisProcess
from support.programs.example_programs import PublishedHistory, program_of
from support.waiting import wait_until

FOLDER = Path(__file__).parent
REQUESTS = 240
CLIENTS = 12
GUNICORN = [
    sys.executable,
    "-W",
    "ignore",
    "-m",
    "gunicorn",
    "--preload",
    "--bind",
    "127.0.0.1:{port}",
    "wsgi_shop:app",
]
UWSGI = [
    *(sys.executable, "-c", "import sys, pyuwsgi; pyuwsgi.run(sys.argv[1:])", "--http-socket", "127.0.0.1:{port}"),
    *("--master", "--die-on-term", "--need-app", "--listen", "64", "--module", "wsgi_shop:app"),
]
BOOTED, SPAWNED, LOADED = "Booting worker", "spawned uWSGI worker", "WSGI app 0"
# Number of processes of each server, the message that each process logs when it is ready, and the command.
SERVERS = {
    "gunicorn sync": (4, BOOTED, [*GUNICORN, "--workers", "4"]),
    "gunicorn gthread": (2, BOOTED, [*GUNICORN, "--workers", "2", "--threads", "4", "--worker-class", "gthread"]),
    "gunicorn gevent": (2, BOOTED, [*GUNICORN, "--workers", "2", "--worker-class", "gevent"]),
    "uwsgi processes": (4, SPAWNED, [*UWSGI, "--processes", "4"]),
    "uwsgi threads": (2, SPAWNED, [*UWSGI, "--processes", "2", "--threads", "4"]),
    "uwsgi lazy": (2, LOADED, [*UWSGI, "--processes", "2", "--lazy-apps"]),
}


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    server = RedisProcess(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def hub(redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    hub = HubProcess(tmp_path_factory.mktemp("hub"), "--broker", redis.url).start()
    yield hub
    hub.stop()


class Server:
    """A server process of `SERVERS`; it publishes in `channel`."""

    def __init__(self, command: list[str], channel: str, log: Path, **env: str) -> None:
        self.port = free_port()
        self.log = log
        env = environment() | env | {"SHOP_CHANNEL": channel}
        env["PYTHONPATH"] += os.pathsep + str(FOLDER)
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [part.format(port=self.port) for part in command], stdout=out, stderr=out, env=env, cwd=log.parent
            )

    def get(self, path: str) -> list[str]:
        """Send a request; return the cursor of the receipt and the worker's process id."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        assert answer.status == 200, self.log.read_text()
        return text.split()

    def count_logged(self, message: str) -> int:
        """Return how often the server has logged this message."""
        assert self._process.poll() is None, self.log.read_text()
        return self.log.read_text().count(message)

    def stop(self) -> None:
        """Stop the server and its workers."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=20)


@pytest.mark.parametrize(
    ("name", "way"), [*((name, "redis") for name in SERVERS), ("gunicorn sync", "http"), ("uwsgi processes", "http")]
)
def test_every_receipt_arrives_once(name: str, way: str, redis: RedisProcess, hub: HubProcess, tmp_path: Path) -> None:
    processes, ready_message, command = SERVERS[name]
    channel = f"ticks:{way}-{name.replace(' ', '-')}"
    variables = {"TIDINGS_URL": redis.url} if way == "redis" else {"TIDINGS_URL": hub.url, "TIDINGS_API_KEY": API_KEY}
    listener = ClientProcess("sse", hub.url, token=token("ann"), channels=[channel]).wait_ready()
    server = Server(command, channel, tmp_path / "server.log", **variables)
    responses: list[list[str]] = []
    try:
        wait_until(lambda: server.count_logged(ready_message) >= processes, within_s=60, why="every worker is ready")
        with ThreadPoolExecutor(CLIENTS) as clients:

            def every_worker_has_answered() -> bool:
                sent = len(responses)
                responses.extend(clients.map(server.get, [f"/{number}" for number in range(sent, sent + REQUESTS)]))
                return len({worker for _, worker in responses}) == processes

            # The kernel chooses the worker of each request, and on a busy machine one starts later than the other.
            wait_until(every_worker_has_answered, within_s=60, why="every worker has answered")
        listener.wait(
            lambda it: len([data for data in it.data() if isinstance(data, str)]) >= len(responses),
            why="all publications",
        )
    finally:
        server.stop()
        listener.stop()
    publications = [record for record in listener.records_of("publication") if record["event"] == "e"]
    assert {record["cursor"]: record["data"] for record in publications} == {
        cursor: f"/{number}" for number, (cursor, _) in enumerate(responses)
    }
    assert len(publications) == len(responses)
    assert listener.records_of("gap") == []


def test_program_of_the_page_works(published_by_default: PublishedHistory, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(program_of("servers.md"))
    command = [*(sys.executable, "-W", "ignore", "-m", "gunicorn"), *("--bind", "127.0.0.1:{port}", "shop:app")]
    server = Server(command, "", tmp_path / "server.log", TIDINGS_URL=published_by_default.url)
    try:
        wait_until(lambda: server.count_logged(BOOTED) >= 1, within_s=60, why="a worker is ready")
        (cursor,) = server.get("/orders")
    finally:
        server.stop()
    assert [publication.cursor for publication in published_by_default.publications("a:visits")] == [cursor]
    assert published_by_default.data("a:visits") == [{"path": "/orders"}]
