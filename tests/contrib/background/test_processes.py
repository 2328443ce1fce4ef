"""Background jobs under gunicorn and in a Celery worker: processes that are killed between each two steps."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from support.ports import free_port
from support.processes.database import Database
from support.processes.hub import environment
from support.processes.redis import RedisProcess
from support.programs.example_programs import PublishedHistory
from support.waiting import wait_until
from tidings.contrib.background.bounds import JobBounds
from tidings.contrib.background.sql_store import SqlJobStore

FOLDER = Path(__file__).parent
GUNICORN = [*(sys.executable, "-W", "ignore", "-m", "gunicorn"), *("--bind", "127.0.0.1:{port}", "background_shop:app")]
SERVERS = {
    "gunicorn sync": [*GUNICORN, "--workers", "2", "--preload"],
    "gunicorn gthread": [*GUNICORN, "--workers", "2", "--threads", "4", "--worker-class", "gthread"],
    "gunicorn gevent": [*GUNICORN, "--workers", "2", "--worker-class", "gevent"],
    "flask": [
        *(sys.executable, "-W", "ignore", "-m", "flask", "--app", "background_shop:app", "run", "--port", "{port}"),
    ],
}
CELERY = [
    *(sys.executable, "-W", "ignore", "-m", "celery", "-A", "background_shop:celery", "worker", "-l", "info"),
    *("-c", "2", "--without-gossip", "--without-mingle", "--without-heartbeat"),
]


class Process:
    """A server or a worker of `background_shop`, with all its child processes."""

    def __init__(self, command: list[str], folder: Path, variables: dict[str, str]) -> None:
        self.port = free_port()
        self._command = [part.format(port=self.port) for part in command]
        self._log = folder / f"{self.port}.log"
        self._folder = folder
        self._environment = environment() | variables
        self._environment["PYTHONPATH"] += os.pathsep + str(FOLDER)
        self.start()

    def start(self) -> None:
        """Start it, or start it again at the same port."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=self._environment, cwd=self._folder, start_new_session=True
            )

    def log(self) -> str:
        """What it has logged."""
        return self._log.read_text()

    def kill(self) -> None:
        """SIGKILL for the process and its children."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=20)

    def stop(self) -> None:
        """SIGTERM, as a deployment does."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=30)

    def request(self, method: str, path: str, user: str = "ann", **form: str) -> http.client.HTTPResponse:
        """Send a request, and read the response: its `text` is the body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {"X-User": user, "Content-Type": "application/x-www-form-urlencoded"}
            connection.request(method, path, urlencode(form) if form else None, headers)
            response = connection.getresponse()
            response.text = response.read().decode()  # type: ignore[attr-defined]
            return response
        finally:
            connection.close()

    def wait_ready(self) -> None:
        """Wait until it answers requests."""

        def answers() -> bool:
            try:
                return self.request("GET", "/").status == 200
            except OSError:
                return False

        wait_until(answers, why=lambda: f"the server answers: {self.log()}")

    def state(self, location: str) -> str:
        """The state of a job."""
        response = self.request("GET", location)
        return response.headers.get("Tidings-Job") or str(response.status)

    def ended(self, location: str) -> Any:
        """The response of the location once the job has ended."""
        wait_until(
            lambda: self.state(location) not in ("queued", "running"),
            why=lambda: f"the job ends, not {self.state(location)}: {self.log()}",
        )
        return self.request("GET", location)


class Site:
    """The servers and workers of one test, the folder of its job's gate, and the publications."""

    def __init__(self, published: PublishedHistory, folder: Path, store: str) -> None:
        self.published = published
        self.folder = folder
        self.job_folder = folder / "job"
        self.job_folder.mkdir()
        self._processes: list[Process] = []
        self._variables = {
            "SHOP_URL": published.url,
            "SHOP_PREFIX": published.prefix,
            "SHOP_BROKER": published.url.replace("/0", "/6"),
            "SHOP_STORE": store,
        }

    def run(self, command: list[str], **variables: str) -> Process:
        process = Process(command, self.folder, self._variables | variables)
        self._processes.append(process)
        return process

    def serve(self, name: str = "gunicorn sync", **variables: str) -> Process:
        server = self.run(SERVERS[name], **variables)
        server.wait_ready()
        return server

    def work(self, *flags: str, **variables: str) -> Process:
        worker = self.run([*CELERY, *flags], **variables)
        wait_until(lambda: " ready." in worker.log(), why=lambda: f"the worker is ready: {worker.log()}")
        return worker

    def begin(self, server: Process, path: str, **form: str) -> str:
        """Begin a job that waits for `open_gate`."""
        response: Any = server.request("POST", path, folder=str(self.job_folder), title="Ü", **form)
        assert response.status == 202, (response.text, server.log())
        return str(response.headers["Location"])

    def wait_started(self) -> int:
        """Wait until a function has started; its process id."""
        started = self.job_folder / "started"
        wait_until(lambda: started.exists() and started.read_text(), why="the function starts")
        return int(started.read_text())

    def open_gate(self) -> None:
        (self.job_folder / "gate").touch()

    def events(self, user: str = "ann") -> list[Any]:
        return self.published.data(f"user:{user}")

    def states(self, location: str) -> list[str]:
        """The different states of a job's events, in order."""
        states = [event["state"] for event in self.events() if event["location"] == location]
        return list(dict.fromkeys(states))

    def stop(self) -> None:
        for process in self._processes:
            if process._process.poll() is None:
                process.kill()


@pytest.fixture(params=["redis", "postgresql", "sqlite"])
def store(request: pytest.FixtureRequest, shared_redis: RedisProcess, database_of: Callable[[str], Database]) -> str:
    """The URL of a store of jobs."""
    return shared_redis.url if request.param == "redis" else table_in(database_of(request.param))


@pytest.fixture
def site(published: PublishedHistory, tmp_path: Path, store: str) -> Iterator[Site]:
    yield from site_of(published, tmp_path, store)


@pytest.fixture
def redis_site(published: PublishedHistory, tmp_path: Path, shared_redis: RedisProcess) -> Iterator[Site]:
    yield from site_of(published, tmp_path, shared_redis.url)


def site_of(published: PublishedHistory, folder: Path, store: str) -> Iterator[Site]:
    site = Site(published, folder, store)
    yield site
    site.stop()


def table_in(database: Database) -> str:
    store = SqlJobStore(database.url, JobBounds())
    store.create_table()
    store.close()
    return database.url


@pytest.mark.parametrize("name", SERVERS)
def test_job_runs_after_its_request_under_every_server(name: str, redis_site: Site) -> None:
    site = redis_site
    server = site.serve(name)
    location = site.begin(server, "/threads")
    process_id = site.wait_started()
    response: Any = server.request("GET", location)
    assert response.status == 202
    # Any worker knows the job, also those that do not run it.
    for _ in range(4):
        wait_until(
            lambda: 0 < (json.loads(server.request("GET", location).text)["progress"] or 0) <= 0.9, why="it moves"
        )  # type: ignore[attr-defined]
    assert server.request("GET", location, user="bob").status == 404
    site.open_gate()
    result = server.ended(location)
    assert (result.status, result.text, result.headers["X-Report"]) == (201, f"Ü by {process_id}", "yes")
    wait_until(lambda: site.states(location)[-1:] == ["done"], why="the end is published")
    assert site.states(location) == ["running", "done"]
    assert site.published.data("a:1") == [{"by": process_id}]
    assert site.events("bob") == []


def test_result_survives_a_restart(site: Site) -> None:
    server = site.serve()
    location = site.begin(server, "/threads")
    process_id = site.wait_started()
    site.open_gate()
    server.ended(location)
    server.kill()
    server.start()
    server.wait_ready()
    result = server.ended(location)
    assert (result.status, result.text) == (201, f"Ü by {process_id}")


def test_job_of_a_killed_process_fails_when_its_lease_ends(site: Site) -> None:
    server = site.serve(SHOP_LEASE_S="2")
    running = site.begin(server, "/threads")
    process_id = site.wait_started()
    server.kill()
    server.start()
    server.wait_ready()
    result = server.ended(running)
    assert (result.status, json.loads(result.text)["code"]) == (500, "unavailable")
    wait_until(lambda: site.states(running)[-1:] == ["failed"], why="the end is published")
    # Its place is free, and the function did not run again.
    site.open_gate()
    other = server.ended(site.begin(server, "/threads"))
    assert (other.status, other.text != f"Ü by {process_id}") == (201, True)
    assert len(site.published.data("a:1")) == 1
    assert server.ended(running).status == 500


def test_job_that_runs_longer_than_its_lease_goes_on(site: Site) -> None:
    server = site.serve(SHOP_LEASE_S="0.5")
    location = site.begin(server, "/threads")
    site.wait_started()
    seen = site.events()
    wait_until(lambda: len(site.events()) > len(seen) + 20, why="two seconds of progress")
    assert server.state(location) == "running"
    site.open_gate()
    assert server.ended(location).status == 201


def test_frozen_process_cannot_change_a_job_that_has_failed(redis_site: Site) -> None:
    site = redis_site
    server, other = site.serve(SHOP_LEASE_S="0.5"), site.serve(SHOP_LEASE_S="0.5")
    location = site.begin(server, "/threads")
    process_id = site.wait_started()
    os.kill(process_id, signal.SIGSTOP)
    assert other.ended(location).status == 500
    site.open_gate()
    os.kill(process_id, signal.SIGCONT)
    wait_until(
        lambda: "discarded" in server.log() or (site.job_folder / "cancelled").exists(), why="the function has ended"
    )
    assert other.ended(location).status == 500
    assert site.states(location)[-1] == "failed"


def test_process_that_is_stopped_ends_its_jobs_at_once(redis_site: Site) -> None:
    site = redis_site
    server, other = site.serve("gunicorn gthread"), site.serve()
    locations = [site.begin(server, "/threads") for _ in range(4)]
    site.wait_started()
    server.stop()
    assert [other.ended(location).status for location in locations] == [500] * 4
    wait_until(
        lambda: {site.states(location)[-1] for location in locations} == {"failed"}, why="the ends are published"
    )


def test_celery_runs_the_job_with_the_same_response(site: Site) -> None:
    server, worker = site.serve(), site.work()
    location = site.begin(server, "/celery")
    process_id = site.wait_started()
    server.kill()
    site.open_gate()
    wait_until(lambda: site.states(location)[-1:] == ["done"], why=lambda: f"it ends without a server: {worker.log()}")
    server.start()
    server.wait_ready()
    result = server.ended(location)
    assert (result.status, result.text, result.headers["X-Report"]) == (201, f"Ü by {process_id}", "yes")
    assert site.states(location) == ["running", "done"]
    assert site.published.data("a:1") == [{"by": process_id}]


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "solo"])
def test_celery_job_is_cancelled_in_every_pool(pool: str, redis_site: Site) -> None:
    site = redis_site
    server = site.serve()
    site.work("-P", pool)
    location = site.begin(server, "/celery")
    site.wait_started()
    assert server.request("DELETE", location, user="bob").status == 404
    assert server.request("DELETE", location).status == 202
    assert server.ended(location).status == 410
    assert (site.job_folder / "cancelled").exists()


def test_failure_in_celery_is_500_and_its_traceback_is_in_the_log_of_the_worker(redis_site: Site) -> None:
    site = redis_site
    server, worker = site.serve(), site.work()
    site.open_gate()
    result = server.ended(site.begin(server, "/celery", fail="1"))
    assert result.status == 500
    assert f"error_id={json.loads(result.text)['error_id']}" in worker.log()
    assert "ValueError: a secret of the log" in worker.log()
    assert "secret" not in result.text + server.log()


def test_killed_celery_worker_is_a_failure_and_the_task_does_not_run_twice(redis_site: Site) -> None:
    site = redis_site
    server, worker = site.serve(SHOP_LEASE_S="1"), site.work(SHOP_LEASE_S="1")
    location = site.begin(server, "/celery")
    site.wait_started()
    worker.kill()
    assert server.ended(location).status == 500
    site.open_gate()
    site.work(SHOP_LEASE_S="1")
    assert server.ended(site.begin(server, "/celery")).status == 201
    assert len(site.published.data("a:1")) == 1


def test_job_waits_for_a_worker_and_can_be_cancelled_before(redis_site: Site) -> None:
    site = redis_site
    server = site.serve()
    first, second = site.begin(server, "/celery"), site.begin(server, "/celery")
    third: Any = server.request("POST", "/celery", folder=str(site.job_folder), title="x")
    assert (third.status, json.loads(third.text)["code"]) == (503, "full")
    assert server.request("DELETE", first).status == 200
    site.open_gate()
    site.work()
    assert (server.ended(first).status, server.ended(second).status) == (410, 201)
    assert len(site.published.data("a:1")) == 1


def test_broker_that_is_down_is_503_and_leaves_no_job(redis_site: Site) -> None:
    site = redis_site
    server = site.serve(SHOP_BROKER="redis://127.0.0.1:1/0")
    for _ in range(3):
        response: Any = server.request("POST", "/celery", folder=str(site.job_folder), title="x")
        assert (response.status, json.loads(response.text)["code"]) == (503, "unavailable")
    site.open_gate()
    assert server.ended(site.begin(server, "/threads")).status == 201
